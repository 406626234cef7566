#include <doctest/doctest.h>
#include <signal.h>

#include <fstream>

#include "common/base/machine.hpp"
#include "tests/system/job.hpp"

namespace weir::test::signals_test {
namespace fs = std::filesystem;

namespace {

/// A shell's exit code and all that `command` says; `weir` in it is the program.
Ended shell(const std::string& command) {
  return Process({"/bin/bash", "-c", "weir() { " WEIR_BINARY " \"$@\"; }; " + command}).wait(60);
}

std::string words_of(const std::vector<std::string>& arguments) {
  std::string words = "weir";
  for (const std::string& argument : arguments) words += " '" + argument + "'";
  return words;
}

const std::vector<std::string> kEndless = {"--placement=local", "--steps=1000000",
                                           "--checkpoint-every=0", "--eval-every=0"};

}  // namespace

TEST_CASE("a job of one process stops with 75 after a checkpoint on SIGTERM, SIGINT and SIGHUP") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    CAPTURE(signal);
    const std::string run = "run" + std::to_string(signal);
    Process job(weir_command(0, small_job(folder, run, kEndless)));
    while (job.running() && step_of(folder / run) < 2) sleep_microseconds(2000);
    job.signal(signal);
    const Ended ended = job.wait(30);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 75);
    CHECK(digests_of(folder / run, read_steps(folder / run).back().step) != "");
    CHECK((ended.output.find("a second SIGTERM or SIGINT ends it at once") != std::string::npos) ==
          (signal != SIGHUP));
  }
}

TEST_CASE("a request to stop that comes before the first step is answered after it") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  struct Way {
    int ranks;
    std::vector<std::string> words;
  };
  int number = 0;
  for (const auto& [ranks, words] :
       {Way{0, {}}, Way{3, {"--placement=dedicated", "--replicas=2", "--consistency=asp"}}}) {
    const std::string run = "run" + std::to_string(number++);
    std::vector<std::string> more = kEndless;
    more.insert(more.end(), words.begin(), words.end());
    std::vector<std::string> command = weir_command(ranks, small_job(folder, run, more));
    // Held back, as `weir run` does it, and sent by each rank to itself before it is weir.
    const auto weir = std::ranges::find(command, WEIR_BINARY);
    const std::vector<std::string> early = {"env", "--block-signal=USR1", "sh", "-c",
                                            "kill -USR1 $$; exec \"$0\" \"$@\""};
    command.insert(weir, early.begin(), early.end());
    const Ended ended = Process(command).wait(60);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 75);
    CHECK(read_steps(folder / run).back().step <= 2);  // of two replicas, one may be a step ahead
  }
}

TEST_CASE("output that cannot be written ends every command with 1 and the reason") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  const std::string run = (folder / "run").string();
  const std::string train = words_of(small_job(folder, "run", {"--placement=local", "--steps=2"}));
  REQUIRE(shell(train).exit_code == 0);
  const std::string full = " >/dev/full", closed = " >&-";
  for (const std::string& command :
       {train + full, "weir generate " + run + " --bytes 5" + full,
        "weir eval " + run + " --samples 2 --json" + full, "weir inspect " + run + full,
        "weir plan " + run + "/config.ini" + full, "weir report " + run + full,
        "weir --help" + full, "weir train --help" + full, "weir --version" + full,
        "weir inspect " + run + closed, "weir --version" + closed}) {
    CAPTURE(command);
    const Ended ended = shell(command);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 1);
    CHECK(ended.output.find(command.ends_with(full)
                                ? "cannot write to stdout: No space left on device"
                                : "cannot write to stdout: Bad file descriptor") !=
          std::string::npos);
  }
  const Ended cut = shell("ulimit -f 1; weir train --help >" + (folder / "help").string());
  CHECK(cut.exit_code == 1);
  CHECK(cut.output == "weir: cannot write to stdout: File too large\n");
}

TEST_CASE("training goes on to its end when nobody reads what it prints, or stdout is closed") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  int number = 0;
  for (const std::string end : {" 2>&1 >&- ", " | exit 0; exit ${PIPESTATUS[0]}"}) {
    CAPTURE(end);
    const std::string run = "run" + std::to_string(number++);
    const Ended ended = shell(
        words_of(small_job(folder, run, {"--placement=local", "--steps=12", "--progress=line"})) +
        end);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 1);
    CHECK(ended.output.find("cannot write to stdout") != std::string::npos);
    CHECK(read_steps(folder / run).size() == 12);
    CHECK(digests_of(folder / run, 12) != "");
  }
}

TEST_CASE("a corpus that is cut while it is read is named, and the job ends with 1") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 200'000, 5);
  Process job(weir_command(0, small_job(folder, "run", kEndless)));
  while (job.running() && step_of(folder / "run") < 2) sleep_microseconds(2000);
  fs::resize_file(folder / "corpus.txt", 100);
  const Ended ended = job.wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 1);
  CHECK(ended.output.find("cannot read " + (folder / "corpus.txt").string() +
                          ": it became shorter") != std::string::npos);
}

TEST_CASE("a job that finds no lower loss stops by itself, done, and keeps its best checkpoint") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  // With a rate of 0 no validation is better than the first.
  const Ended ended =
      run_weir(3, small_job(folder, "run",
                            {"--replicas=2", "--steps=1000000", "--rate.peak=0", "--eval-every=6",
                             "--eval-patience=3", "--checkpoint-every=6", "--checkpoint.keep=2"}));
  INFO(ended.output);
  CHECK(ended.exit_code == 0);
  CHECK(ended.output.find("3 validations in a row found no loss below") != std::string::npos);
  const auto steps = read_steps(folder / "run");
  CHECK(steps.back().step >= 24);
  CHECK(steps.back().step < 30);
  CHECK(fs::exists(folder / "run/checkpoints/step-00000006/MANIFEST"));
  CHECK_FALSE(fs::exists(folder / "run/checkpoints/step-00000012"));
}

}  // namespace weir::test::signals_test
