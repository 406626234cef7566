#pragma once

#include <string>
#include <vector>

#include "launch/run_config.hpp"

namespace weir {
class Comm;

/// One size of buckets, tried.
struct BucketTrial {
  index_t bucket_bytes = 0;  ///< at most
  index_t bucket_count = 0;
  double seconds = 0;  ///< median, from the first ready() of a step until all its weights are back
};

/// What was tried: a model as wide as the configuration's, of as many layers as its stages need and
/// not more than kTrialBytes allow.
struct BucketTrials {
  index_t parameter_bytes = 0;
  index_t rounds = 0;
  std::vector<BucketTrial> trials;
};
inline constexpr index_t kTrialBytes = index_t{32} << 20;

/// Tries sizes from 64 KiB to 4 MiB, for about two seconds. With the ranks of `world`, as
/// many as the layout needs, whole steps without their computing: push, sum, optimizer, pull, in
/// turn over the sizes. Without (null), what a server does with its share of the buckets: the sum
/// of all contributions and the optimizer, and nothing of what travelling costs. All ranks get the
/// same. `config` has been fitted to its data and checked.
BucketTrials measure_buckets(const RunConfig& config, const Comm* world);

/// The smallest size that takes at most 3 % longer than the fastest: the smaller a bucket, the
/// earlier the first layers are back.
index_t recommended_bucket_bytes(const std::vector<BucketTrial>& trials);

/// A table of the trials, and the recommendation.
std::string trials_text(const RunConfig& config, const BucketTrials& trials, bool with_ranks);

}  // namespace weir
