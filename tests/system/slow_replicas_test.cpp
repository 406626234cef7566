#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/system/job.hpp"

namespace weir::test::slow_replicas_test {
// What ps/clocks_test shows of the rules alone, of whole jobs: from the logs that they leave.
namespace {

std::vector<std::string> arguments(const TemporaryFolder& folder, const std::string& run,
                                   std::vector<std::string> more) {
  more.insert(
      more.begin(),
      {"train", "--micro-batch=1", "--data.held-out=2000", "--progress=none", "--log-level=warning",
       "--data.files=" + (folder / "corpus.txt").string(), "--run=" + (folder / run).string()});
  return more;
}

/// Small steps, many of them, of replicas that are slow now and then: mostly asleep.
std::vector<std::string> many_steps(index_t replicas, index_t steps, unsigned seed,
                                    const std::string& slow, std::vector<std::string> more) {
  more.insert(more.end(),
              {"--replicas=" + std::to_string(replicas), "--servers=1",
               "--batch=" + std::to_string(replicas), "--length=8", "--model.layers=1",
               "--model.width=16", "--model.heads=1", "--model.feed-forward=16",
               "--steps=" + std::to_string(steps), "--seed=" + std::to_string(seed),
               "--eval-every=0", "--checkpoint-every=0", "--inject=sleep=0.5ms,slow=" + slow});
  return more;
}

/// The decisions of a run as what happened to the replicas: calls see(is_close, replicas).
template <class See>
void read_decisions(const std::filesystem::path& run, const See& see) {
  std::ifstream file(run / "decisions.jsonl");
  REQUIRE(file.good());
  std::string line;
  std::getline(file, line);  // the head
  while (std::getline(file, line)) {
    const auto json = nlohmann::json::parse(line);
    const bool is_close = json.contains("close");
    see(is_close, json.at(is_close ? "close" : "drop").get<std::vector<std::size_t>>());
  }
}

/// What metrics.jsonl says last of the number of dropped contributions.
index_t dropped_count(const std::filesystem::path& run) {
  std::ifstream file(run / "metrics.jsonl");
  index_t count = -1;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.contains("dropped_count")) count = json["dropped_count"];
  }
  return count;
}

}  // namespace

TEST_CASE("ssp: in a real job nobody begins a step farther ahead of the slowest than the bound") {
  const unsigned seed = std::random_device()() % 1'000'000;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 12);
  for (const index_t replicas : {index_t(2 + random() % 4), index_t{7}}) {
    const auto staleness = static_cast<index_t>(random() % 4);
    CAPTURE(replicas);
    CAPTURE(staleness);
    const index_t steps = 200;
    const std::string run = "ssp" + std::to_string(replicas);
    const Ended ended = run_weir(
        static_cast<int>(replicas) + 1,
        arguments(folder, run,
                  many_steps(replicas, steps, seed, "any:20x:10%",
                             {"--consistency=ssp", "--staleness=" + std::to_string(staleness)})));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    std::vector<index_t> done(replicas, 0);
    index_t farthest = 0;
    read_decisions(folder / run, [&](bool is_close, const std::vector<std::size_t>& who) {
      REQUIRE(is_close);
      REQUIRE(who.size() == 1);
      // It began this step at the latest now, and the slowest has not gone back since.
      farthest = std::max(farthest, done[who[0]] - std::ranges::min(done));
      ++done[who[0]];
    });
    CHECK(done == std::vector<index_t>(done.size(), steps));
    CHECK(farthest <= staleness);
    CHECK((farthest > 0 || staleness == 0));  // somebody was slow
  }
}

TEST_CASE("asp: in a real job the others do not wait for one who is always slow") {
  const unsigned seed = std::random_device()() % 1'000'000;
  CAPTURE(seed);
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 13);
  for (const index_t replicas : {2, 5}) {
    CAPTURE(replicas);
    const index_t steps = 100;
    const std::string run = "asp" + std::to_string(replicas);
    const Ended ended = run_weir(
        static_cast<int>(replicas) + 1,
        arguments(folder, run, many_steps(replicas, steps, seed, "1:20x", {"--consistency=asp"})));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    std::vector<index_t> done(replicas, 0);
    index_t farthest = 0;
    read_decisions(folder / run, [&](bool, const std::vector<std::size_t>& who) {
      ++done[who.front()];
      farthest = std::max(farthest, done[who.front()] - done[1]);
    });
    CHECK(done == std::vector<index_t>(done.size(), steps));
    CHECK(farthest > steps / 5);  // on a busy machine the others are slow now and then, too
  }
}

TEST_CASE("backups: in a real job nothing stands still, and each late contribution is counted") {
  const unsigned seed = std::random_device()() % 1'000'000;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 14);
  for (const index_t replicas : {index_t(2 + random() % 4), index_t{7}}) {
    const auto backup = 1 + static_cast<index_t>(random()) % (replicas - 1);
    CAPTURE(replicas);
    CAPTURE(backup);
    const index_t steps = 200;
    const std::string run = "backup" + std::to_string(replicas);
    const Ended ended =
        run_weir(static_cast<int>(replicas) + 1,
                 arguments(folder, run,
                           many_steps(replicas, steps, seed, "any:20x:10%",
                                      {"--backup=" + std::to_string(backup), "--grace=0.1"})));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    std::vector<bool> is_late(replicas, false);
    index_t closes = 0, left_out = 0, dropped = 0;
    read_decisions(folder / run, [&](bool is_close, const std::vector<std::size_t>& who) {
      if (is_close) {
        ++closes;
        CHECK(std::ssize(who) >= replicas - backup);
      }
      for (std::size_t replica = 0; replica < is_late.size(); ++replica) {
        const bool named = std::ranges::count(who, replica) > 0;
        if (is_close) {
          CHECK_FALSE((named && is_late[replica]));
          left_out += !named && !is_late[replica] ? 1 : 0;
          is_late[replica] = !named;
        } else if (named) {
          CHECK(is_late[replica]);
          is_late[replica] = false;
          ++dropped;
        }
      }
    });
    CHECK(closes == steps);
    CHECK(dropped > 0);
    CHECK(dropped == left_out);
    CHECK(dropped == dropped_count(folder / run));
  }
}

TEST_CASE("bsp: runs of four replicas with delays of any kind end in the same bits") {
  const unsigned seed = std::random_device()() % 1'000'000;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 30'000, 15);
  std::string first;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const std::string slow = (random() % 2 == 0 ? "any" : std::to_string(random() % 4)) + ":" +
                             std::to_string(2 + random() % 10) +
                             "x:" + std::to_string(10 + random() % 90) + "%";
    CAPTURE(slow);
    const std::string run = "bsp" + std::to_string(repeat);
    const Ended ended =
        run_weir(6, arguments(folder, run,
                              {"--replicas=4", "--bucket-bytes=65536", "--servers=2", "--steps=24",
                               "--batch=8", "--length=32", "--model.layers=2", "--model.width=32",
                               "--model.heads=4", "--model.feed-forward=64", "--model.dropout=0.1",
                               "--inject=sleep=1ms,slow=" + slow}));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    if (repeat == 0) first = digests_of(folder / run);
    CHECK(digests_of(folder / run) == first);
  }

  // Seen from outside: servers wait for replicas that sleep, and share the work.
  std::ifstream file(folder / "bsp0" / "metrics.jsonl");
  double busy = 0, waited = 0, elapsed = 0;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.at("kind") != "step") continue;
    busy += json.at("server_busy_s").get<double>();
    waited += json.at("server_waited_s").get<double>();
    elapsed = json.at("elapsed_s");
    CHECK(json.at("server_busy_imbalance").get<double>() >= 1);
    CHECK(json.at("server_busy_imbalance").get<double>() <= 2);  // of two
    CHECK(json.at("server_bytes_imbalance").get<double>() >= 1);
    CHECK(json.at("server_bytes_imbalance").get<double>() < 1.5);
  }
  CHECK(busy > 0);
  CHECK(waited > busy);
  CHECK(busy + waited < elapsed);
}

}  // namespace weir::test::slow_replicas_test
