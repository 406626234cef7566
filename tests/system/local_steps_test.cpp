#include <doctest/doctest.h>

#include <fstream>

#include "common/base/machine.hpp"
#include "tests/system/job.hpp"

using namespace weir;
using namespace weir::test;

TEST_CASE("rounds of one local step are steps of all: the curve of bsp") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 10);
  const std::vector<std::string> sgd = {"--replicas=3",       "--servers=2",
                                        "--rate.peak=0.2",    "--optimizer.kind=sgd",
                                        "--clip.policy=none", "--optimizer.momentum=0",
                                        "--rate.warm-up=3",   "--local.steps=1",
                                        "--local.momentum=0", "--local.rate=1"};
  const auto run = [&](const char* mode) {
    std::vector<std::string> more = sgd;
    more.push_back(std::string("--consistency=") + mode);
    const Ended ended = run_weir(5, small_job(folder, mode, more));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    return read_steps(folder / mode);
  };
  const auto together = run("bsp");
  const auto rounds = run("local");
  REQUIRE(rounds.size() == together.size());
  for (std::size_t at = 0; at < rounds.size(); ++at) {
    CHECK(rounds[at].loss == doctest::Approx(together[at].loss).epsilon(1e-5));
    CHECK(rounds[at].cursor == together[at].cursor);
  }
}

TEST_CASE("local steps send a round's way, resume between rounds and end with one") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 11);
  const auto run = [&](const std::string& steps) {
    std::vector<std::string> all =
        small_job(folder, "run",
                  {"--replicas=2", "--servers=1", "--consistency=local", "--local.steps=6",
                   "--checkpoint-every=12", "--steps=" + steps});
    return run_weir(3, all);
  };
  CHECK(run("25").exit_code == 2);
  const Ended first = run("24");
  INFO(first.output);
  REQUIRE(first.exit_code == 0);
  const Ended second = run("48");
  INFO(second.output);
  REQUIRE(second.exit_code == 0);
  CHECK(second.output.find("goes on from") != std::string::npos);
  const auto steps = read_steps(folder / "run");
  REQUIRE(steps.size() == 48);
  CHECK(steps.back().loss < steps.front().loss);
  // A model travels in one step of six.
  std::ifstream metrics(folder / "run" / "metrics.jsonl");
  index_t silent = 0, loud = 0;
  for (std::string line; std::getline(metrics, line);) {
    if (line.find("\"kind\":\"step\"") == std::string::npos) continue;
    (line.find("\"pushed_bytes\":0,") != std::string::npos ? silent : loud) += 1;
  }
  CHECK(silent == 40);
  CHECK(loud == 8);
}

TEST_CASE("local steps go on to the same bits: each replica's moments are in the checkpoint") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 16);
  const auto run = [&](const std::string& name, int replicas, std::vector<std::string> more) {
    more.insert(more.end(),
                {"--replicas=" + std::to_string(replicas), "--servers=2", "--consistency=local",
                 "--local.steps=4", "--checkpoint-every=8", "--eval-every=8", "--wire-push=int8"});
    return run_weir(replicas + 2, small_job(folder, name, more));
  };
  const Ended whole = run("whole", 2, {});
  INFO(whole.output);
  REQUIRE(whole.exit_code == 0);
  const auto steps = read_steps(folder / "whole");
  // The servers count rounds.
  const std::string middle =
      "--resume=" + (folder / "whole" / "checkpoints" / "step-00000002").string();
  const Ended rest = run("rest", 2, {middle});
  INFO(rest.output);
  REQUIRE(rest.exit_code == 0);
  CHECK(read_steps(folder / "rest") == std::vector(steps.begin() + 8, steps.end()));
  CHECK(digests_of(folder / "rest", 6) == digests_of(folder / "whole", 6));
  CHECK(rest.output.find("begin anew") == std::string::npos);

  // Other replicas have no moments there, and say so; nor has one whose folder is gone.
  const Ended fewer = run("fewer", 1, {middle});
  INFO(fewer.output);
  REQUIRE(fewer.exit_code == 0);
  CHECK(fewer.output.find("begin anew: the checkpoint has other replicas") != std::string::npos);
  std::filesystem::remove_all(folder / "whole" / "checkpoints" / "replica-1");
  const Ended lost = run("lost", 2, {middle});
  INFO(lost.output);
  REQUIRE(lost.exit_code == 0);
  CHECK(lost.output.find("replica 1's own steps begin anew: there is no") != std::string::npos);
  CHECK(digests_of(folder / "lost", 6) != digests_of(folder / "whole", 6));
}

TEST_CASE("local steps that are asked to stop go on to the same bits") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 17);
  const std::vector<std::string> job = {"--replicas=2",        "--servers=1",
                                        "--consistency=local", "--local.steps=4",
                                        "--eval-every=0",      "--checkpoint-every=0"};
  const auto with = [&](const std::string& more) {
    std::vector<std::string> all = job;
    all.push_back(more);
    return all;
  };
  const Ended whole = run_weir(3, small_job(folder, "whole", job));
  INFO(whole.output);
  REQUIRE(whole.exit_code == 0);
  Process first(weir_command(3, small_job(folder, "parts", with("--inject=sleep=100ms"))));
  for (int look = 0; look < 1000 && read_steps(folder / "parts").size() < 6; ++look) {
    sleep_microseconds(10'000);
  }
  std::ofstream(folder / "parts" / "STOP").close();
  const Ended stopped = first.wait(60);
  INFO(stopped.output);
  REQUIRE(stopped.exit_code == 75);
  REQUIRE(read_steps(folder / "parts").size() < 24);
  const Ended rest = run_weir(3, small_job(folder, "parts", job));
  INFO(rest.output);
  REQUIRE(rest.exit_code == 0);
  CHECK(rest.output.find("begin anew") == std::string::npos);
  CHECK(digests_of(folder / "parts", 6) == digests_of(folder / "whole", 6));
}
