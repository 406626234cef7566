#include "launch/command.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <set>

#include "common/base/error.hpp"
#include "common/base/habits.hpp"
#include "common/base/spelling.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::command_test {
namespace {

struct Outcome {
  int code = -1;
  std::string out;  ///< both streams
};

/// Runs the program itself, which lies in the folder above this test's. `environment`: NAME=value
/// words.
Outcome run_weir(const std::string& arguments, const std::string& environment = "") {
  const std::string command = environment + " " WEIR_BINARY " " + arguments + " 2>&1";
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
    CHECK(has(outcome.out, "16Ki (16,384)"));
    CHECK(run_weir("help " + command.name).out == outcome.out);
    CHECK(run_weir("--help " + command.name).out == outcome.out);
    for (const char* const options : {" --steps 3 --help", " --nonsense --help x", " RUN -h"}) {
      const Outcome late = run_weir(command.name + options);
      CHECK(late.code == 0);
      CHECK(late.out == outcome.out);
    }
  }
  CHECK(run_weir("help").out == help_of_weir());
  CHECK(run_weir("help trian").code == 2);
}

TEST_CASE("-h may be an option's value, --help never is") {
  CHECK_FALSE(asks_for_help({"RUN", "--prompt", "-h"}));
  CHECK_FALSE(asks_for_help({"--prompt=--help"}));
  CHECK(asks_for_help({"RUN", "--prompt", "--help"}));
  CHECK(asks_for_help({"--prompt=x", "-h"}));
}

TEST_CASE("each habit of another program leads to an option that some command has") {
  std::string help;
  for (const Command& command : commands()) help += run_weir(command.name + " --help").out;
  std::set<std::string> names;
  for (const Habit& habit : habits()) {
    CAPTURE(habit.name);
    CHECK(has(help, "\n  --" + habit.option + "  "));
    CHECK_FALSE(has(help, "\n  --" + habit.name + "  "));
    CHECK(names.insert(canonical_name(habit.name)).second);
  }
  for (const auto& [arguments, option] : std::vector<std::pair<std::string, std::string>>{
           {"plan --lr 1", "--rate.peak"},
           {"plan --batch-size=8", "--batch"},
           {"plan --epochs 3", "--steps"},
           {"plan --learning_rate 1", "--rate.peak"},
           {"plan --gpus 2", "--threads"},
           {"generate --max-new-tokens 5 RUN", "--bytes"}}) {
    CAPTURE(arguments);
    const Outcome outcome = run_weir(arguments);
    CHECK(outcome.code == 2);
    CHECK(has(outcome.out, "(did you mean " + option + "?"));
  }
}

TEST_CASE(
    "a site's own WEIR_ variable is ignored with a warning; one that is nearly an option not") {
  const Outcome outcome = run_weir("plan --model.layers=1", "WEIR_HOME=/opt/weir ");
  CHECK(outcome.code == 0);
  CHECK(has(outcome.out,
            "warning: environment: WEIR_HOME is no option of weir and is ignored; the nearest is "
            "WEIR_"));
  CHECK(run_weir("plan --model.layers=1", "WEIR_BATCHES=4 ").code == 2);
}

TEST_CASE("plan --rank prints the role of one rank and nothing else") {
  CHECK(run_weir("plan --replicas 2 --servers 2 --rank 3").out == "server 1\n");
  CHECK(run_weir("plan --rank=0 --replicas 2").out == "replica 0, stage 0, shard 0\n");
  const Outcome beyond = run_weir("plan --replicas 2 --rank 3");
  CHECK(beyond.code == 2);
  CHECK(has(beyond.out, "--rank 3: the last rank of this job is 2"));
  CHECK(run_weir("plan --rank").code == 2);
  CHECK(run_weir("plan --rank x").code == 2);
}

TEST_CASE("the path of a command may stand anywhere among its options; plan takes a run folder") {
  const test::TemporaryFolder folder;
  const std::string run = folder.path().string();
  std::ofstream(folder.path() / "config.ini") << "[model]\nlayers = 3\n";
  for (const std::string& arguments :
       {run + " --batch 8", "--batch 8 " + run, "--model.tied " + run + " --batch=8",
        run + "/config.ini --batch 8"}) {
    CAPTURE(arguments);
    const Outcome outcome = run_weir("plan " + arguments);
    CHECK(outcome.code == 0);
    CHECK(has(outcome.out, "3 layers"));
  }
  CHECK(
      has(run_weir("plan --batch 8 " + run + " " + run).out, "plan takes one path, and here are "));
  CHECK(
      has(run_weir("plan " + run + "/..").out, "config.ini does not exist; name an INI file or a"));
  for (const std::string command :
       {"eval --samples 2 ", "generate --prompt x ", "report --out x ", "inspect --verify "}) {
    CAPTURE(command);
    const Outcome outcome = run_weir(command + "/nowhere");
    CHECK(outcome.code != 0);
    CHECK(has(outcome.out, "/nowhere"));
    CHECK_FALSE(has(outcome.out, "name a "));
  }
}

TEST_CASE("weir --version says the version alone") {
  const Outcome outcome = run_weir("--version");
  CHECK(outcome.code == 0);
  CHECK(outcome.out == "weir " WEIR_VERSION "\n");
  CHECK(run_weir("version").out == outcome.out);
  CHECK(run_weir("-V").out == outcome.out);
}

TEST_CASE("wrong usage is one line that begins with weir:, and exit code 2") {
  for (const auto& [arguments, message] : std::vector<std::pair<std::string, std::string>>{
           {"pln",
            "weir: unknown command pln (did you mean plan?); weir --help lists the commands\n"},
           {"plan --stpes 3", "weir: unknown option --stpes (did you mean --steps?)\n"},
           {"plan /nowhere.ini", "weir: cannot read the configuration /nowhere.ini: "},
           {"plan --model.heads=3",
            "weir: --model.width 128 is not a multiple of --model.heads 3; "},
           {"eval", "weir: eval: name a checkpoint or a run folder\n"},
           {"generate --bytes=3", "weir: generate: name a checkpoint or a run folder\n"},
           {"inspect", "weir: inspect: name a checkpoint or a run folder\n"},
           {"inspect /nowhere", "weir: /nowhere: there is no such file or folder\n"}}) {
    CAPTURE(arguments);
    const Outcome outcome = run_weir(arguments);
    CAPTURE(outcome.out);
    CHECK(outcome.code == 2);
    CHECK(outcome.out.starts_with(message));
    CHECK(outcome.out.find('\n') == outcome.out.size() - 1);
  }
}

TEST_CASE("control characters of a name reach the terminal as words") {
  const Outcome outcome = run_weir("inspect \"$(printf '/no\\033[31m\\351')\"");
  CHECK(outcome.out == "weir: /no\\x1b[31m\\xe9: there is no such file or folder\n");
}

TEST_CASE("a name that the system refuses is an error that says so") {
  for (const char* command : {"inspect", "eval", "generate", "report", "plan"}) {
    CAPTURE(command);
    const Outcome outcome = run_weir(text(command, " ", std::string(300, 'x')));
    CAPTURE(outcome.out);
    CHECK((outcome.code == 1 || outcome.code == 2));
    CHECK(has(outcome.out, ": File name too long\n"));
    CHECK_FALSE(has(outcome.out, "unexpected"));
  }
}

TEST_CASE("under a launcher one rank does what needs no MPI, the others keep silent") {
  const std::string last = "OMPI_COMM_WORLD_SIZE=3 OMPI_COMM_WORLD_RANK=";
  for (const char* arguments : {"--version", "--help", "train --help", "inspect /nowhere", "pln"}) {
    CAPTURE(arguments);
    const Outcome alone = run_weir(arguments);
    const Outcome first = run_weir(arguments, last + "0");
    CHECK(first.out == alone.out);
    CHECK(first.code == alone.code);
    const Outcome third = run_weir(arguments, last + "2");
    CHECK(third.out == "");
    CHECK(third.code == 0);  // another code would end rank 0 before it has spoken
  }
}

TEST_CASE("sizes that no machine has are refused before anything is planned or allocated") {
  for (const auto& [arguments, message] : std::vector<std::pair<std::string, std::string>>{
           {"--batch=1e9 --micro-batch=1", "makes 1000000000 a replica, more than 100000;"},
           {"--model.layers=10000 --model.width=1048576",
            "parameters, more than 1,048,576 buckets"},
           {"--replicas=65536 --stages=65536 --contexts=65536 --shards=65536",
            "are more than 65536 workers"},
           {"--batch=1e6 --micro-batch=1e6 --length=16777216", "is more than a rank can hold"}}) {
    CAPTURE(arguments);
    const Outcome outcome = run_weir("plan " + arguments);
    CAPTURE(outcome.out);
    CHECK(outcome.code == 2);
    CHECK(has(outcome.out, message));
  }
}

TEST_CASE("no command at all: the help, and exit code 2") {
  const Outcome outcome = run_weir("");
  CHECK(outcome.code == 2);
  CHECK(outcome.out == help_of_weir());
}

}  // namespace

}  // namespace weir::test::command_test
