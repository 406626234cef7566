#include "launch/command.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <set>

#include "common/base/error.hpp"

namespace weir {
namespace {

struct Outcome {
  int code = -1;
  std::string out;  ///< both streams
};

/// Runs the program itself, which lies in the folder above this test's.
Outcome run_weir(const std::string& arguments) {
  const std::string command = std::string(WEIR_BINARY " ") + arguments + " 2>&1";
  Outcome outcome;
  FILE* const pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  for (std::array<char, 4096> part; std::fgets(part.data(), part.size(), pipe) != nullptr;) {
    outcome.out += part.data();
  }
  outcome.code = WEXITSTATUS(pclose(pipe));
  return outcome;
}

bool has(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

TEST_CASE("commands have different names and each stands in the help with its summary") {
  const std::string help = help_of_weir();
  std::set<std::string> names;
  for (const Command& command : commands()) {
    CHECK(names.insert(command.name).second);
    CHECK(has(help, "  " + command.name + " "));
    CHECK(has(help, command.summary + "\n"));
    CHECK(find_command(command.name).name == command.name);
  }
}

TEST_CASE("an unknown command is refused with the nearest one") {
  CHECK_THROWS_WITH_AS(find_command("insepct"),
                       "unknown command insepct (did you mean inspect?); weir --help lists the "
                       "commands",
                       UsageError);
  CHECK_THROWS_WITH_AS(find_command("--steps"),
                       "the command comes first, not --steps; weir --help lists the commands",
                       UsageError);
}

TEST_CASE("weir --help and every command's --help end well; none reads anything") {
  CHECK(run_weir("--help").code == 0);
  CHECK(run_weir("--help").out == help_of_weir());
  for (const Command& command : commands()) {
    CAPTURE(command.name);
    const Outcome outcome = run_weir(command.name + " --help");
    CHECK(outcome.code == 0);
    CHECK(outcome.out.starts_with("usage: weir " + command.name));
    CHECK(has(outcome.out, "\n  --"));
  }
}

TEST_CASE("weir --version says the version alone") {
  const Outcome outcome = run_weir("--version");
  CHECK(outcome.code == 0);
  CHECK(outcome.out == "weir " WEIR_VERSION "\n");
}

TEST_CASE("wrong usage is one line that begins with weir:, and exit code 2") {
  for (const auto& [arguments, message] : std::vector<std::pair<std::string, std::string>>{
           {"pln",
            "weir: unknown command pln (did you mean plan?); weir --help lists the commands\n"},
           {"plan --stpes 3", "weir: unknown option --stpes (did you mean --steps?)\n"},
           {"plan /nowhere.ini", "weir: cannot read the configuration /nowhere.ini: "},
           {"plan --model.heads=3",
            "weir: --model.width 128 is not a multiple of --model.heads 3; "},
           {"eval", "weir: eval: name a checkpoint or a run folder first\n"},
           {"generate --bytes=3", "weir: generate: name a checkpoint or a run folder first\n"},
           {"inspect", "weir: inspect: name a checkpoint or a run folder first\n"},
           {"inspect /nowhere", "weir: /nowhere: there is no such file or folder\n"}}) {
    CAPTURE(arguments);
    const Outcome outcome = run_weir(arguments);
    CAPTURE(outcome.out);
    CHECK(outcome.code == 2);
    CHECK(outcome.out.starts_with(message));
    CHECK(outcome.out.find('\n') == outcome.out.size() - 1);
  }
}

TEST_CASE("no command at all: the help, and exit code 2") {
  const Outcome outcome = run_weir("");
  CHECK(outcome.code == 2);
  CHECK(outcome.out == help_of_weir());
}

}  // namespace
}  // namespace weir
