#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/machine.hpp"
#include "tests/system/job.hpp"

namespace weir::test::local_steps_test {
namespace {

/// The steps that the lives of a run began after.
std::vector<index_t> starts_of(const std::filesystem::path& run_folder) {
  std::vector<index_t> starts;
  std::ifstream metrics(run_folder / "metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.at("kind") == "start") starts.push_back(json.at("step"));
  }
  return starts;
}

/// The learning rate of each step.
std::map<index_t, double> rates_of(const std::filesystem::path& run_folder) {
  std::map<index_t, double> rates;
  std::ifstream metrics(run_folder / "metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.at("kind") == "step") rates[json.at("step")] = json.at("rate");
  }
  return rates;
}

}  // namespace

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
  const std::string middle =
      "--resume=" + (folder / "whole" / "checkpoints" / "step-00000008").string();
  const Ended rest = run("rest", 2, {middle});
  INFO(rest.output);
  REQUIRE(rest.exit_code == 0);
  CHECK(read_steps(folder / "rest") == std::vector(steps.begin() + 8, steps.end()));
  CHECK(digests_of(folder / "rest") == digests_of(folder / "whole"));
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
  CHECK(digests_of(folder / "lost") != digests_of(folder / "whole"));
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
  CHECK(digests_of(folder / "parts") == digests_of(folder / "whole"));
}

TEST_CASE("local steps and every other consistency go on from each other's checkpoints") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 18);
  struct Life {
    int ranks;
    index_t steps;  // that end it, not always a multiple of a round's
    double replicas_a_rate;
    const char* anew;  // what the log says of it
    std::vector<std::string> options;
  };
  const auto local = [](const char* round, const char* placement) {
    return std::vector<std::string>{"--consistency=local", round, "--replicas=2", placement};
  };
  const char* const dedicated = "--placement=dedicated";
  const char* const colocated = "--placement=colocated";
  const char* const moments = "keep no moments of adamw: they begin anew, and so does the clip";
  const char* const momentum = "the momentum of the servers' rounds begins anew";
  const std::vector<Life> lives = {
      {0, 6, 1, "", {"--placement=local"}},
      {2, 12, 1, momentum, local("--local.steps=4", colocated)},
      {3, 18, 2, moments, {"--consistency=ssp", "--replicas=2", dedicated}},
      {3, 24, 1, momentum, local("--local.steps=4", dedicated)},
      {3, 30, 1, "", local("--local.steps=5", dedicated)},
      {2, 35, 2, moments, {"--consistency=asp", "--replicas=2", colocated}},
      {2, 36, 1, momentum, local("--local.steps=4", colocated)},
      {3, 41, 1, moments, {"--backup=1", "--grace=100", "--replicas=2", dedicated}},
      {2, 44, 1, momentum, local("--local.steps=4", colocated)},
      {0, 46, 1, moments, {"--placement=local"}},
  };
  std::vector<index_t> ends = {0};
  for (const Life& life : lives) {
    CAPTURE(life.steps);
    std::vector<std::string> more = life.options;
    more.insert(more.end(),
                {"--steps=" + std::to_string(life.steps), "--eval-every=0", "--checkpoint-every=0",
                 "--rate.schedule=constant", "--rate.peak=0.01", "--rate.warm-up=1000"});
    const Ended ended = run_weir(life.ranks, small_job(folder, "run", more));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    CHECK(ended.output.find(life.anew) != std::string::npos);
    CHECK((ended.output.find("anew") == std::string::npos) == (*life.anew == '\0'));
    CHECK(ended.output.find("optimizer.kind") == std::string::npos);  // nobody changed it
    CHECK(ended.output.find("clip.policy") == std::string::npos);
    CHECK(starts_of(folder / "run") == ends);
    ends.push_back(life.steps);
    const std::vector<StepLine> steps = read_steps(folder / "run");
    REQUIRE(std::ssize(steps) == life.steps);
    CHECK(steps.back().cursor == 8 * life.steps);
    CHECK(rates_of(folder / "run")[life.steps] * life.replicas_a_rate ==
          doctest::Approx(0.01 * static_cast<double>(life.steps) / 1000));
    CHECK_NOTHROW(digests_of(folder / "run", life.steps));
  }
  const std::vector<StepLine> steps = read_steps(folder / "run");
  CHECK(steps.back().loss < steps.front().loss);
}

}  // namespace weir::test::local_steps_test
