#include <doctest/doctest.h>
#include <signal.h>

#include <cstdlib>
#include <fstream>

#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"
#include "tests/system/job.hpp"
#include "tests/system/supervised.hpp"

namespace weir::test::supervisor_test {
namespace {

using Words = std::vector<std::string>;

/// A program that stands in for another one and does `what`. It notes each start in a file beside
/// it.
std::string stand_in(const fs::path& path, const std::string& what) {
  std::ofstream(path) << "#!/bin/sh\n[ \"$1\" = plan ] && exit 1\necho >>\"$0.starts\"\n"
                      << what << '\n';
  fs::permissions(path, fs::perms::owner_all);
  return path.string();
}

index_t start_count(const std::string& program) {
  std::error_code error;
  const auto size = fs::file_size(program + ".starts", error);
  return error ? 0 : static_cast<index_t>(size);  // a line without words each
}

/// The same with the mpirun in this folder.
Words with_mpirun_of(const TemporaryFolder& folder, const Words& words) {
  Words all = {"env", "PATH=" + folder.path().string() + ':' + std::getenv("PATH")};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

// A real one takes two seconds to end after a rank that failed.
const std::string kFailingRank = "echo 'weir: a rank begins, of 1' >&2; exit 1";

bool has(const std::string& output, const std::string& words) {
  return output.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("wrong usage ends the supervisor at once") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  const Ended ended =
      Process(supervised({}, 3, small_job(folder, "run", {"--model.heads=3"}))).wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 2);
  CHECK_FALSE(has(ended.output, "started again"));
  CHECK_FALSE(has(ended.output, "restarts"));
}

TEST_CASE("a job that never commits is given up with 93 after three starts") {
  const TemporaryFolder folder;
  const std::string mpirun = stand_in(folder / "mpirun", kFailingRank);
  const Words words = supervised({"--restarts=9", "--binary=/bin/false"}, 1,
                                 {"train", "--run=" + (folder / "run").string()});
  const Ended ended = Process(with_mpirun_of(folder, words)).wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 93);
  CHECK(start_count(mpirun) == 3);
  CHECK(has(ended.output, "the job ended with 1 and is started again at once (restart 1 of 9)"));
  CHECK(has(ended.output, "is started again in 1 s (restart 2 of 9); no step is committed"));
  CHECK(has(ended.output, "the job is given up: 3 starts in a row committed no step"));
}

TEST_CASE("a signal between two starts ends the supervisor; the code says if a step is committed") {
  for (const bool commits : {true, false}) {
    CAPTURE(commits);
    const TemporaryFolder folder;
    const std::string mpirun = stand_in(folder / "mpirun", kFailingRank);
    const fs::path run = folder / "run";
    if (commits) {
      const fs::path checkpoint = checkpoint_folder(run / "checkpoints", 1);
      fs::create_directories(checkpoint);
      std::ofstream(checkpoint / "MANIFEST").put('\n');
    }
    Process job(with_mpirun_of(folder, supervised({}, 1, {"train", "--run=" + run.string()})));
    // The first restart comes at once, the second one after a second.
    while (job.running() && (start_count(mpirun) < 2 || !children_of(job.id()).empty())) {
      sleep_microseconds(1000);
    }
    job.signal(SIGTERM);
    const Ended ended = job.wait(30);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == (commits ? 75 : 128 + SIGTERM));
    CHECK(start_count(mpirun) == 2);
  }
}

TEST_CASE("a file STOP that comes between two starts is no file of an earlier job") {
  const TemporaryFolder folder;
  const fs::path run = folder / "run";
  fs::create_directory(run);
  const std::string mpirun =
      stand_in(folder / "mpirun", "touch '" + (run / "STOP").string() + "'; " + kFailingRank);
  const Ended ended =
      Process(with_mpirun_of(folder, supervised({}, 1, {"train", "--run=" + run.string()})))
          .wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 1);  // no step is committed
  CHECK(start_count(mpirun) == 1);
}

TEST_CASE("ranks end with an mpirun that is killed or stopped") {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    CAPTURE(signal);
    const TemporaryFolder folder;
    const std::string program = stand_in(folder / "stand-in", "exec tail -f \"$0\"");
    Process job(supervised({"--restarts=0", "--binary=" + program}, 2,
                           {"train", "--run=" + (folder / "run").string()}));
    while (job.running() && start_count(program) < 2) sleep_microseconds(1000);
    for (const pid_t child : children_of(job.id())) kill(child, signal);
    const Ended ended = job.wait(30);
    CAPTURE(ended.output);
    CHECK(ended.exit_code == 137);
    CHECK(has(ended.output, signal == SIGKILL ? "mpirun was killed by signal 9 (KILL)"
                                              : "mpirun was stopped (SIGSTOP)"));
    CHECK(processes(program).empty());
  }
}

TEST_CASE("a job that does not take its run folder within --start-wait is ended with 86") {
  const TemporaryFolder folder;
  const std::string program = stand_in(folder / "stand-in", "exec tail -f \"$0\"");
  Process job(supervised({"--start-wait=1", "--restarts=1", "--binary=" + program}, 2,
                         {"train", "--run=" + (folder / "run").string()}));
  const Ended ended = job.wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 86);
  CHECK(has(ended.output, "none has taken the run folder within 1 s (--start-wait)"));
  CHECK(start_count(program) == 4);
  CHECK(processes(program).empty());
}

TEST_CASE("a job that does not stop when it is asked to is ended after --stop-wait") {
  const TemporaryFolder folder;
  const std::string program =
      stand_in(folder / "stand-in", "exec tail -f \"$0\"");  // SIGUSR1 is held back
  Process job(supervised({"--stop-wait=1", "--binary=" + program}, 2,
                         {"train", "--run=" + (folder / "run").string()}));
  while (job.running() && start_count(program) < 2) sleep_microseconds(1000);
  job.signal(SIGTERM);
  const Ended ended = job.wait(30);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 128 + SIGTERM);
  CHECK(has(ended.output, "the job has not stopped within 1 s (--stop-wait) and is ended"));
  CHECK(start_count(program) == 2);
  CHECK(processes(program).empty());
}

}  // namespace weir::test::supervisor_test
