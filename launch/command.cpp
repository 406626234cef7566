#include "launch/command.hpp"

#include <algorithm>
#include <string_view>

#include "common/base/error.hpp"
#include "common/base/spelling.hpp"

namespace weir {

namespace {

constexpr std::string_view kNumbersHelp =
    "Numbers may be written 1_000, 1e3, 16k (16,000) or 16Ki (16,384): k, M, G, T are powers of\n"
    "1000, Ki, Mi, Gi, Ti powers of 1024. Sizes in bytes may end in B: 1MiB, 512kB.\n";

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      {"train", "trains a model under mpirun or in one process", true, train},
      {"run", "runs a job under mpirun, and starts it again after a failure", false, supervise},
      {"eval", "scores a checkpoint on held-out data, in one process or under mpirun", true, eval},
      {"generate", "continues a text with a trained language model", false, generate},
      {"plan", "shows what each rank will hold and send, and the schedule", true, plan},
      {"top", "shows what each rank of a running job does", false, top},
      {"inspect", "shows what is in a checkpoint or a run folder", false, inspect},
      {"report", "draws the metrics of a run as an HTML page", false, report},
  };
  return all;
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> known;
  for (const Command& command : commands()) {
    if (command.name == name) return command;
    known.push_back(command.name);
  }
  const bool is_option = name.starts_with("-");
  throw UsageError(text(is_option ? "the command comes first, not " : "unknown command ", name,
                        did_you_mean(name, known), "; weir --help lists the commands"));
}

std::string help_of_weir() {
  std::string help =
      "weir trains long-sequence models under MPI: workers compute gradients, parameter servers\n"
      "own the weights.\n\nusage: weir COMMAND [options]\n\n";
  std::size_t width = 0;
  for (const Command& command : commands()) width = std::max(width, command.name.size());
  for (const Command& command : commands()) {
    const std::string blanks(width - command.name.size() + 2, ' ');
    help += text("  ", command.name, blanks, command.summary, '\n');
  }
  return help + "\n" +
         "`weir COMMAND --help` and `weir help COMMAND` list the options of a command.\n"
         "`weir version` prints the version.\n"
         "Give an option on the command line (--steps 100), in the environment (WEIR_STEPS=100)\n"
         "or in a file (--config FILE, with steps = 100). The first of these that has it "
         "counts.\n" +
         std::string(kNumbersHelp) +
         "Exit codes: 0 done, 1 error, 2 wrong usage, 3 done but the loss is not finite, 70 a bug "
         "in\n"
         "weir, 74 checkpoints could not be written, 75 stopped on request after a checkpoint, 86 "
         "ended\n"
         "by the watchdog because nothing went on any more. Those of a job under mpirun: `weir run "
         "--help`.\n";
}

bool asks_for_help(const Arguments& arguments) {
  for (std::size_t at = 0; at < arguments.size(); ++at) {
    if (arguments[at] == "--help") return true;
    const bool may_be_value = at > 0 && arguments[at - 1].starts_with("--") &&
                              arguments[at - 1].find('=') == std::string::npos;
    if (arguments[at] == "-h" && !may_be_value) return true;
  }
  return false;
}

std::string take_path(const std::string& command, const std::string& kind,
                      const std::vector<Option>& table, Arguments& arguments) {
  const std::vector<std::string> words = take_words(table, arguments);
  if (words.empty() || words[0].empty() || words[0].starts_with("-")) {
    throw UsageError(text(command, ": name ", kind));
  }
  if (words.size() > 1) {
    throw UsageError(text(command, " takes one path, and here are ", words[0], " and ", words[1],
                          "; options are --name value or --name=value"));
  }
  return words[0];
}

std::string help_of_command(const std::string& name, const std::string& usage,
                            const std::string& description, const std::vector<Option>& table) {
  return text("usage: weir ", name, ' ', usage, "\n\n", description, "\n\n", options_help(table),
              '\n', kNumbersHelp);
}

}  // namespace weir
