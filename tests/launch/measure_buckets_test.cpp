#include "launch/measure_buckets.hpp"

#include <doctest/doctest.h>

#include "common/net/mpi.hpp"
#include "tests/mpi_test.hpp"

namespace weir {
namespace {

RunConfig config_of(std::vector<std::string> arguments) {
  RunConfig config = parse_run_config(arguments, {}).config;
  fit_model_to_data(config);
  check(config);
  return config;
}

void check_trials(const BucketTrials& trials) {
  CHECK(trials.parameter_bytes > 0);
  REQUIRE(trials.trials.size() == 7);
  CHECK(trials.trials.front().bucket_bytes == 64 << 10);
  CHECK(trials.trials.back().bucket_bytes == 4 << 20);
  for (std::size_t at = 0; at < trials.trials.size(); ++at) {
    CHECK(trials.trials[at].seconds > 0);
    CHECK(trials.trials[at].seconds < 10);
    if (at > 0) CHECK(trials.trials[at].bucket_count <= trials.trials[at - 1].bucket_count);
  }
}

TEST_CASE("the smallest bucket that is nearly as fast as any is recommended") {
  CHECK(recommended_bucket_bytes({{1, 8, 1.2}, {2, 4, 1.02}, {4, 2, 1.0}, {8, 1, 1.5}}) == 2);
  CHECK(recommended_bucket_bytes({{1, 8, 1.2}, {2, 4, 1.04}, {4, 2, 1.0}, {8, 1, 1.0}}) == 4);
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
  const auto own = static_cast<double>(recommended_bucket_bytes(trials.trials));
  CHECK(ranks.comm.max(own) == -ranks.comm.max(-own));
}

MPI_TEST_CASE("two workers and a server try sizes of buckets", 3) {
  measure_with(ranks, {"--replicas=2"});
}
MPI_TEST_CASE("stages and shards of colocated ranks try sizes of buckets", 4) {
  measure_with(ranks, {"--stages=2", "--shards=2", "--placement=colocated"});
}

}  // namespace
}  // namespace weir
