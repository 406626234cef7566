#include "launch/plan/measure_buckets.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "common/net/mpi.hpp"
#include "tests/mpi_test.hpp"

namespace weir::test::measure_buckets_test {
namespace {

RunConfig config_of(std::vector<std::string> arguments) {
  RunConfig config = parse_run_config(arguments, {}).config;
  fit_model_to_data(config);
  check(config);
  return config;
}

void check_trials(const BucketTrials& trials) {
  CHECK(trials.parameter_bytes > 0);
  REQUIRE(trials.bucket_bytes.size() == 7);
  CHECK(trials.bucket_bytes.front().value == 64 << 10);
  CHECK(trials.bucket_bytes.back().value == 4 << 20);
  for (std::size_t at = 0; at < trials.bucket_bytes.size(); ++at) {
    CHECK(trials.bucket_bytes[at].seconds > 0);
    CHECK(trials.bucket_bytes[at].seconds < 10);
    if (at > 0)
      CHECK(trials.bucket_bytes[at].bucket_count <= trials.bucket_bytes[at - 1].bucket_count);
  }
}

TEST_CASE("the smallest bucket that is nearly as fast as any is recommended") {
  CHECK(recommended({{1, 8, 1.2}, {2, 4, 1.02}, {4, 2, 1.0}, {8, 1, 1.5}}) == 2);
  CHECK(recommended({{1, 8, 1.2}, {2, 4, 1.04}, {4, 2, 1.0}, {8, 1, 1.0}}) == 4);
}

TEST_CASE("alone, a model that is too large for a short trial lends its width") {
  const RunConfig config = config_of({"--model.layers=50", "--model.width=256", "--replicas=2",
                                      "--model.feed-forward=1024", "--optimizer.kind=lamb"});
  const BucketTrials trials = measure_buckets(config, nullptr);
  check_trials(trials);
  CHECK(trials.parameter_bytes <= kTrialBytes);
  CHECK(trials.parameter_bytes > kTrialBytes / 2);
  const std::string shown = trials_text(config, trials, false);
  CAPTURE(shown);
  CHECK(shown.find("recommended: --bucket-bytes ") != std::string::npos);
}

void measure_with(const test::Ranks& ranks, std::vector<std::string> layout) {
  layout.insert(layout.end(), {"--model.layers=2", "--model.width=64", "--model.heads=2",
                               "--model.feed-forward=128", "--batch=4", "--micro-batch=1"});
  const BucketTrials trials = measure_buckets(config_of(layout), &ranks.comm);
  check_trials(trials);
  // All ranks recommend the same.
  const auto own = static_cast<double>(recommended(trials.bucket_bytes));
  CHECK(ranks.comm.max(own) == -ranks.comm.max(-own));
  const bool messages = std::ranges::find(layout, "--transport=messages") != layout.end();
  REQUIRE(trials.ring_depths.size() == (messages ? 5 : 0));
  if (!messages) return;
  CHECK(trials.ring_depths.front().value == 1);
  CHECK(trials.ring_depths.back().value == 16);
  for (const Trial& each : trials.ring_depths) {
    CHECK(each.bucket_count == trials.ring_depths.front().bucket_count);
    CHECK(each.seconds > 0);
  }
}

MPI_TEST_CASE("two workers and a server try sizes of buckets", 3) {
  measure_with(ranks, {"--replicas=2", "--transport=window"});
  measure_with(ranks, {"--replicas=2", "--transport=messages"});
}
MPI_TEST_CASE("stages and shards of colocated ranks try sizes of buckets", 4) {
  measure_with(ranks, {"--stages=2", "--shards=2", "--placement=colocated", "--transport=window"});
}

}  // namespace

}  // namespace weir::test::measure_buckets_test
