#include "launch/supervise/mpirun_words.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "common/base/machine.hpp"

namespace weir {
namespace {

using Names = std::vector<std::string_view>;

bool is_in(const Names& names, std::string_view word) {
  return std::ranges::find(names, word) != names.end();
}

const Names kCommands = {"train", "eval", "plan"};
const Names kHostfile = {"--hostfile", "-hostfile", "--machinefile", "-machinefile"};
const Names kHosts = {"--host", "-host", "-H", "--default-hostfile"};
const Names kRanks = {"-n", "-np", "--n", "--np"};
const Names kFolder = {"--wdir", "-wdir"};
const Names kWithTwoValues = {"--mca", "-mca", "--gmca", "-gmca"};
const Names kWithValue = {"-x",        "--map-by",   "-map-by",   "--bind-to",
                          "-bind-to",  "--rank-by",  "-rank-by",  "-N",
                          "-npernode", "--npernode", "--prefix",  "-prefix",
                          "--path",    "-path",      "--timeout", "-timeout"};

/// How many words an option takes, itself included.
std::size_t word_count(std::string_view option) {
  if (is_in(kWithTwoValues, option)) return 3;
  for (const Names* const names : {&kHostfile, &kHosts, &kRanks, &kFolder, &kWithValue}) {
    if (is_in(*names, option)) return 2;
  }
  return 1;
}

/// The number; 0 if the word is none.
index_t number_in(const std::string& word) {
  index_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size() && number > 0 ? number : 0;
}

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

MpirunWords read_mpirun_words(const std::vector<std::string>& words) {
  MpirunWords read;
  std::size_t at = 0;
  while (at < words.size() && !is_in(kCommands, words[at])) {
    const std::string& word = words[at];
    const std::size_t count = std::min(word_count(word), words.size() - at);
    const std::string value = count > 1 ? words[at + 1] : "";
    if (is_in(kHosts, word) || is_in(kHostfile, word)) {
      read.hostfile = read.one_host && is_in(kHostfile, word) ? value : "";
      read.one_host = false;
    }
    if (is_in(kRanks, word)) read.ranks = number_in(value);
    if (is_in(kFolder, word)) read.folder = value;
    if (word == "-x" && value.find('=') != std::string::npos) read.exported.push_back(value);
    if (!word.starts_with("-") && read.stranger.empty()) read.stranger = word;
    for (std::size_t each = 0; each < count; ++each) read.options.push_back(words[at++]);
  }
  for (; at < words.size(); ++at) read.command.push_back(words[at]);
  return read;
}

MpirunWords with_hosts(MpirunWords words, const std::string& hostfile, index_t ranks) {
  std::vector<std::string> options;
  for (std::size_t at = 0; at < words.options.size();) {
    const std::string& word = words.options[at];
    const std::size_t end = std::min(at + word_count(word), words.options.size());
    if (is_in(kHostfile, word)) {
      options.insert(options.end(), {word, hostfile});
    } else if (!is_in(kRanks, word)) {
      options.insert(options.end(), words.options.begin() + static_cast<std::ptrdiff_t>(at),
                     words.options.begin() + static_cast<std::ptrdiff_t>(end));
    }
    at = end;
  }
  options.insert(options.end(), {"-n", text(ranks)});
  words.options = std::move(options);
  words.hostfile = hostfile;
  words.ranks = ranks;
  return words;
}

std::vector<std::string> with_option(std::vector<std::string> command, const std::string& name,
                                     const std::string& value) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < command.size(); ++at) {
    if (command[at] == "--" + name) {
      ++at;  // its value
    } else if (!command[at].starts_with("--" + name + "=")) {
      words.push_back(command[at]);
    }
  }
  words.push_back("--" + name + "=" + value);
  return words;
}

MpirunHost mpirun_host() {
  return {.is_root = geteuid() == 0,
          .has_slurm_job = !variable("SLURM_JOB_ID").empty(),
          .cores = core_count(),
          .placement = variable("WEIR_PLACEMENT"),
          .components = variable("HWLOC_COMPONENTS")};
}

std::vector<std::pair<std::string, std::string>> mpirun_environment(const MpirunWords& words,
                                                                    const MpirunHost& host) {
  std::vector<std::pair<std::string, std::string>> variables;
  if (host.is_root) {  // a container, say; Open MPI refuses root unless told twice
    variables.emplace_back("OMPI_ALLOW_RUN_AS_ROOT", "1");
    variables.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  // One machine: more ranks than cores are fine. Ranks that wait sleep by themselves, but shards
  // add up awake: if there are more workers than cores, they must let each other run. If not,
  // yielding in each look for messages costs 4 % of the speed. (2 shards x 2 replicas on 2 cores:
  // 200 ms a step without, 135 with; 2 replicas: 118 without, 123 with.) One rank at least is a
  // server alone, unless they are colocated.
  if (words.one_host && !host.has_slurm_job) {
    const bool colocated = host.placement.find("colocated") != std::string::npos ||
                           std::ranges::any_of(words.command, [](const std::string& word) {
                             return word.find("colocated") != std::string::npos;
                           });
    const index_t workers = colocated ? words.ranks : words.ranks - 1;
    const bool has_cores = words.ranks > 0 && workers <= host.cores;
    variables.emplace_back("OMPI_MCA_rmaps_base_oversubscribe", "1");
    variables.emplace_back("OMPI_MCA_mpi_yield_when_idle", has_cores ? "0" : "1");
    // mpirun would tie each of one or two ranks to a core, with all its threads.
    variables.emplace_back("OMPI_MCA_hwloc_base_binding_policy", "none");
    // When a rank has failed, the others end at once: there is nothing that they could still do in
    // the second that mpirun would give them. (From 1.1 s to 0.1 s for three ranks.)
    variables.emplace_back("OMPI_MCA_odls_base_sigkill_timeout", "0");
  }
  // An OpenCL runtime would take SIGUSR1 away from mpirun, which loads it to look for accelerators.
  if (host.components.empty()) variables.emplace_back("HWLOC_COMPONENTS", "-opencl");
  return variables;
}

}  // namespace weir
