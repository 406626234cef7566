#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/system/job.hpp"

namespace weir::test::overflow_test {
namespace {

/// The scale after each step, as metrics.jsonl has it.
std::map<index_t, double> loss_scales(const std::filesystem::path& run) {
  std::ifstream file(run / "metrics.jsonl");
  std::map<index_t, double> scales;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.at("kind") == "step") scales[json.at("step")] = json.at("loss_scale");
  }
  return scales;
}

}  // namespace

TEST_CASE(
    "an infinite element of one shard leaves no trace: weights and moments of the step before") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  struct Case {
    const char* name;
    int ranks;
    std::vector<std::string> more;
  };
  for (const Case& each :
       {Case{"replicas", 4, {"--replicas=2", "--servers=2"}},
        Case{"shards", 3, {"--shards=2", "--servers=1", "--wire-push=bf16"}},
        Case{"stages", 2, {"--stages=2", "--placement=colocated", "--optimizer.kind=lamb"}}}) {
    CAPTURE(each.name);
    std::vector<std::string> more = each.more;
    more.insert(more.end(), {"--steps=12", "--checkpoint-every=11", "--inject=overflow=12-12"});
    const Ended ended = run_weir(each.ranks, small_job(folder, each.name, more));
    CAPTURE(ended.output);
    REQUIRE(ended.exit_code == 0);
    CHECK(ended.output.find("step 12 is skipped: the gradient is not finite") != std::string::npos);
    CHECK(read_steps(folder / each.name).size() == 12);
    CHECK(digests_of(folder / each.name, 12) == digests_of(folder / each.name, 11));
  }
}

TEST_CASE("fp16: resumed amid a back-off, in another placement, a job ends with the same bits") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  const auto run = [&](const char* name, int ranks, std::vector<std::string> more) {
    more.insert(more.end(),
                {"--precision=fp16", "--replicas=2", "--checkpoint-every=6", "--checkpoint.keep=9",
                 "--loss-scale.initial=256", "--loss-scale.growth-steps=4",
                 "--loss-scale.hysteresis=2", "--inject=overflow=5-5,overflow=8-9"});
    const Ended ended = run_weir(ranks, small_job(folder, name, more));
    INFO(ended.output);
    REQUIRE(ended.exit_code == 0);
    return loss_scales(folder / name);
  };
  const std::map<index_t, double> scales = run("whole", 3, {});
  // Doubled after 4 clean steps; step 5 is borne, 8 and 9 halve; then 4 clean steps a doubling.
  const std::vector<std::pair<index_t, double>> expected = {
      {3, 256}, {4, 512}, {7, 512}, {8, 256}, {9, 128}, {12, 128}, {13, 256}, {17, 512}};
  for (const auto& [step, scale] : expected) {
    CAPTURE(step);
    CHECK(scales.at(step) == scale);
  }
  const std::string early = (folder / "whole" / "checkpoints" / "step-00000006").string();
  const auto resumed = run("resumed", 2, {"--placement=colocated", "--resume=" + early});
  REQUIRE(resumed.size() == 18);
  for (const auto& [step, scale] : resumed) CHECK(scale == scales.at(step));
  CHECK(digests_of(folder / "resumed") == digests_of(folder / "whole"));
}

}  // namespace weir::test::overflow_test
