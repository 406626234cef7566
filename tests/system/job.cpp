#include "tests/system/job.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/number/random.hpp"

namespace weir::test {

Process::Process(const std::vector<std::string>& command) : started_at_(seconds_now()) {
  const std::filesystem::path path = output_path();
  const int output = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (output < 0) throw Error("cannot write " + path.string());
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  id_ = fork();
  if (id_ == 0) {
    setpgid(0, 0);  // so that all of it can be killed
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, 0);
    dup2(output, 1);
    dup2(output, 2);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    // OpenCL would take SIGUSR1 away from mpirun; looking at every PCI device takes time.
    setenv("HWLOC_COMPONENTS", "-opencl,-pci,-linuxio", 0);
    setenv("OMPI_MCA_pml", "ob1", 0);  // it is chosen anyhow; asking the others takes 0.2 s
    setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
    execvp(words[0], words.data());
    _exit(127);
  }
  close(output);
}

Process::~Process() {
  if (running()) {
    kill(-id_, SIGKILL);
    waitpid(id_, &status_, 0);
  }
}

void Process::signal(int number) const { kill(id_, number); }

bool Process::running() {
  if (!ended_ && waitpid(id_, &status_, WNOHANG) == id_) ended_ = true;
  return !ended_;
}

Ended Process::wait(double timeout_s) {
  Ended ended;
  while (running()) {
    if (seconds_now() - started_at_ > timeout_s) {
      kill(-id_, SIGKILL);
      waitpid(id_, &status_, 0);
      ended_ = ended.timed_out = true;
      break;
    }
    sleep_microseconds(5000);
  }
  ended.seconds = seconds_now() - started_at_;
  ended.exit_code = WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
  ended.output = output();
  return ended;
}

std::string Process::output() const {
  std::ostringstream all;
  all << std::ifstream(output_path()).rdbuf();
  return all.str();
}

std::vector<std::string> weir_command(int ranks, const std::vector<std::string>& arguments) {
  std::vector<std::string> command;
  if (ranks > 0) {
    command = {"mpirun", "--quiet", "--oversubscribe",    "--bind-to",
               "none",   "-n",      std::to_string(ranks)};
  }
  command.push_back(WEIR_BINARY);
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

Ended run_weir(int ranks, const std::vector<std::string>& arguments, double timeout_s) {
  return Process(weir_command(ranks, arguments)).wait(timeout_s);
}

std::vector<StepLine> read_steps(const std::filesystem::path& run_folder) {
  std::ifstream file(run_folder / "metrics.jsonl");
  std::map<index_t, StepLine> steps;
  for (std::string line; std::getline(file, line);) {
    if (file.eof()) break;  // without its end: it is being written
    const auto json = nlohmann::json::parse(line);
    if (json.at("kind") != "step") continue;
    const auto number = [&](const char* key) {
      return json.at(key).is_null() ? std::numeric_limits<double>::quiet_NaN()
                                    : json.at(key).get<double>();
    };
    StepLine step = {.step = json.at("step"),
                     .loss = number("loss"),
                     .norm = number("norm"),
                     .threshold = number("threshold"),
                     .cursor = json.at("cursor")};
    if (json.contains("layer_norms")) step.layer_norms = json["layer_norms"];
    steps[step.step] = step;
  }
  std::vector<StepLine> lines;
  for (const auto& [number, step] : steps) lines.push_back(step);
  return lines;
}

index_t step_of(const std::filesystem::path& run_folder) {
  const std::vector<StepLine> steps = read_steps(run_folder);
  return steps.empty() ? 0 : steps.back().step;
}

double read_figure(const std::filesystem::path& run_folder, const std::string& key,
                   const std::string& kind) {
  std::ifstream file(run_folder / "metrics.jsonl");
  double figure = std::numeric_limits<double>::quiet_NaN();
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.at("kind") == kind) figure = json.at(key);
  }
  return figure;
}

std::vector<float> read_newest_checkpoint(const std::filesystem::path& run_folder) {
  const auto newest = newest_complete(run_folder / "checkpoints");
  if (!newest) return {};
  const CheckpointReader reader(*newest);
  std::vector<float> all;
  index_t record = 0;
  for (const CheckpointRecord& each : reader.manifest().records) {
    std::size_t count = 1;
    for (const index_t extent : each.shape) count *= extent;
    all.resize(all.size() + count);
    reader.read(record++, 0, std::span(all).last(count));
  }
  return all;
}

std::string digests_of(const std::filesystem::path& run_folder, index_t step) {
  std::ifstream manifest(checkpoint_folder(run_folder / "checkpoints", step) / "MANIFEST");
  std::string all;
  for (std::string line; std::getline(manifest, line);) {
    if (line.starts_with("digest ")) all += line + '\n';
  }
  if (all.empty()) throw Error(text("no checkpoint of step ", step, " in ", run_folder.string()));
  return all;
}

std::vector<std::string> small_model() {
  return {"--length=32",       "--model.layers=2",        "--model.width=32",
          "--model.heads=4",   "--model.feed-forward=64", "--model.dropout=0.1",
          "--attention.left=8"};
}

std::vector<std::string> small_job(const TemporaryFolder& folder, const std::string& run,
                                   const std::vector<std::string>& more) {
  std::vector<std::string> all = {"train",
                                  "--steps=24",
                                  "--batch=8",
                                  "--micro-batch=1",
                                  "--data.files=" + (folder / "corpus.txt").string(),
                                  "--data.held-out=2000",
                                  "--bucket-bytes=65536",
                                  "--checkpoint-every=10",
                                  "--eval-every=6",
                                  "--eval-samples=4",
                                  "--progress=none",
                                  "--run=" + (folder / run).string()};
  const std::vector<std::string> model = small_model();
  all.insert(all.end(), model.begin(), model.end());
  for (const std::string& each : more) {  // instead of what has the same name
    const std::string name = each.substr(0, each.find('=') + 1);
    std::erase_if(all, [&](const std::string& other) { return other.starts_with(name); });
    all.push_back(each);
  }
  return all;
}

void write_corpus(const std::filesystem::path& path, index_t bytes, std::uint64_t seed) {
  const char* const words[] = {"the ",   "weir ", "holds ", "water ",  "and ", "a ",
                               "river ", "runs ", "over ",  "stone. ", "low ", "dam "};
  std::string text;
  for (std::uint64_t index = 0; std::ssize(text) < bytes; ++index) {
    text += words[random_word(seed, 1, index) % std::size(words)];
  }
  text.resize(bytes);
  std::ofstream(path) << text;
}

}  // namespace weir::test
