#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/system/job.hpp"

namespace weir::test::rollback_test {
namespace {

constexpr int kSteps = 60;

/// A clip that lets bad batches pass, and three of them in a row.
std::vector<std::string> arguments(const TemporaryFolder& folder, const std::string& run,
                                   const std::vector<std::string>& more) {
  std::vector<std::string> all = {"train",
                                  "--steps=" + std::to_string(kSteps),
                                  "--batch=4",
                                  "--micro-batch=1",
                                  "--length=32",
                                  "--seed=4",
                                  "--replicas=2",
                                  "--model.layers=2",
                                  "--model.width=64",
                                  "--model.heads=4",
                                  "--model.feed-forward=128",
                                  "--clip.policy=none",
                                  "--rate.peak=1e-2",
                                  "--rate.warm-up=5",
                                  "--rollback=3",
                                  "--inject=bad=46-48:30x",
                                  "--data.files=" + (folder / "corpus.txt").string(),
                                  "--data.held-out=2000",
                                  "--bucket-bytes=65536",
                                  "--checkpoint-every=35",
                                  "--progress=none",
                                  "--eval-samples=2",
                                  "--run=" + (folder / run).string()};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::vector<index_t> rollbacks_of(const std::filesystem::path& run) {
  std::ifstream file(run / "metrics.jsonl");
  std::vector<index_t> steps;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.at("kind") == "step" && json.at("skip") == "rollback") steps.push_back(json["step"]);
  }
  return steps;
}

}  // namespace

TEST_CASE("bad batches in a row are undone, to the same bits wherever the servers are") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  const auto run = [&](const std::string& name, int ranks, const std::vector<std::string>& more) {
    const Ended ended = run_weir(ranks, arguments(folder, name, more));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    CHECK(ended.output.find(
              "step 48: 3 bad steps in a row; the servers return to the weights after step "
              "35") != std::string::npos);
    CHECK(rollbacks_of(folder / name) == std::vector<index_t>{48});
    return read_steps(folder / name);
  };
  const auto steps = run("one", 3, {"--servers=1"});
  REQUIRE(steps.size() == kSteps);
  const std::vector<float> weights = read_newest_checkpoint(folder / "one");
  REQUIRE(!weights.empty());
  CHECK(steps.back().loss < steps[44].loss * 1.2);

  const std::string early = (folder / "one" / "checkpoints" / "step-00000035").string();
  struct Case {
    const char* name;
    int ranks;
    std::vector<std::string> more;
  };
  for (const Case& each : {Case{"two", 4, {"--servers=2"}}, Case{"three", 5, {"--servers=3"}},
                           Case{"colocated", 2, {"--placement=colocated"}},
                           Case{"resumed", 4, {"--servers=2", "--resume=" + early}}}) {
    CAPTURE(each.name);
    auto others = run(each.name, each.ranks, each.more);
    REQUIRE(!others.empty());
    const auto begin = steps.end() - std::ssize(others);
    CHECK(std::equal(begin, steps.end(), others.begin(), others.end()));
    CHECK((read_newest_checkpoint(folder / each.name) == weights));
  }
}

}  // namespace weir::test::rollback_test
