#include "launch/run/hang.hpp"

#include <doctest/doctest.h>
#include <signal.h>

#include <fstream>

#include "common/base/machine.hpp"
#include "tests/system/job.hpp"

namespace weir::test::hang_test {
namespace fs = std::filesystem;

namespace {

constexpr double kFloorSeconds = 2;
/// What mpirun takes to end a job, on a busy machine.
constexpr double kMpirunSeconds = 4;

const std::vector<std::string> kThreeRanks = {"--placement=dedicated", "--replicas=2",
                                              "--watchdog.floor=2"};

/// Waits until each of three ranks has shown that it trains; returns their records.
std::vector<LiveRecord> training_ranks(Process& job, const fs::path& run) {
  while (job.running()) {
    const std::vector<LiveRecord> records = read_live_records(live_folder(run));
    if (records.size() == 3 && std::ranges::all_of(records, [](const LiveRecord& each) {
          return each.phase == "train" && each.step > 1;
        })) {
      return records;
    }
    sleep_microseconds(20'000);
  }
  FAIL("the job has ended before it trained: ", job.wait(1).output);
  return {};
}

}  // namespace

TEST_CASE("weir top shows a job, and a server in it that is stopped; mpirun ends with 86") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  const fs::path run = folder / "run";
  std::vector<std::string> more = kThreeRanks;
  more.insert(more.end(), {"--steps=1000000", "--checkpoint-every=0", "--eval-every=0"});
  Process job(weir_command(3, small_job(folder, "run", more)));
  const std::vector<LiveRecord> ranks = training_ranks(job, run);
  const Ended shown = run_weir(0, {"top", run.string()});
  CHECK(shown.exit_code == 0);
  CHECK(shown.output.find("server 0") != std::string::npos);
  REQUIRE(kill(static_cast<pid_t>(ranks[2].process), SIGSTOP) == 0);
  const double stopped_at_s = seconds_now();
  const Ended ended = job.wait(60);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 86);
  CHECK(seconds_now() - stopped_at_s < kFloorSeconds + 2 + kMpirunSeconds);
  CHECK(ended.output.find("the job stands still: all wait for rank 2, server 0") !=
        std::string::npos);
  CHECK(read_live_records(hang_folder(run)).size() == 2);
  CHECK(describe_hang(run).starts_with("all wait for rank 2, server 0"));  // from what is left
  Ended gone = run_weir(0, {"top", run.string()});
  while (gone.exit_code == 0 && seconds_now() - stopped_at_s < 15) {  // some rank is dying still
    sleep_microseconds(50'000);
    gone = run_weir(0, {"top", run.string()});
  }
  CHECK(gone.exit_code == 1);
  CHECK(gone.output.find("has left its record") != std::string::npos);
}

TEST_CASE("a job that evaluates, saves and takes longer for a step than the floor ends well") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  std::vector<std::string> more = kThreeRanks;
  more.insert(more.end(), {"--steps=3", "--checkpoint-every=2", "--eval-every=2",
                           "--watchdog.floor=1", "--inject=sleep=1300ms"});
  fs::create_directories(folder / "run" / "hang");
  std::ofstream(folder / "run" / "LOCK") << "host a, process 7\n";
  std::ofstream(folder / "run" / "hang" / "rank-0.json") << "{}";  // of an earlier job
  const Ended ended = run_weir(3, small_job(folder, "run", more));
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 0);
  CHECK_FALSE(fs::exists(folder / "run" / "hang"));
  CHECK_FALSE(fs::exists(folder / "run" / "live"));
}

TEST_CASE("a whole job that is stopped for longer than the floor goes on and ends well") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 5);
  std::vector<std::string> more = kThreeRanks;
  more.insert(more.end(),
              {"--steps=1000000", "--checkpoint-every=0", "--eval-every=0", "--watchdog.floor=1"});
  Process job(weir_command(3, small_job(folder, "run", more)));
  const std::vector<LiveRecord> ranks = training_ranks(job, folder / "run");
  for (const int signal : {SIGSTOP, SIGCONT}) {
    for (const LiveRecord& rank : ranks) kill(static_cast<pid_t>(rank.process), signal);
    if (signal == SIGSTOP) sleep_microseconds(2'500'000);
  }
  sleep_microseconds(1'500'000);
  std::ofstream(folder / "run" / "STOP");
  const Ended ended = job.wait(60);
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 75);
}

TEST_CASE("a floor below a second and another word than on and off are wrong usage") {
  const TemporaryFolder folder;
  for (const char* const wrong : {"--watchdog.floor=0.5", "--watchdog=maybe"}) {
    CAPTURE(wrong);
    const Ended ended = run_weir(0, small_job(folder, "run", {"--placement=local", wrong}));
    CHECK(ended.exit_code == 2);
    CHECK(ended.output.find("--watchdog") != std::string::npos);
  }
}

}  // namespace weir::test::hang_test
