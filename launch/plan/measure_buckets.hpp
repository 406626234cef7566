#pragma once

#include <string>
#include <vector>

#include "launch/run_config.hpp"

namespace weir {
class Comm;

/// One value of an option, tried.
struct Trial {
  index_t value = 0;
  index_t bucket_count = 0;
  double seconds = 0;  ///< median, from the first ready() of a step until all its weights are back
};

/// What was tried: a model as wide as the configuration's, of as many layers as its stages need and
/// not more than kTrialBytes allow.
struct BucketTrials {
  index_t parameter_bytes = 0;
  index_t rounds = 0;
  std::vector<Trial> bucket_bytes;  ///< at most
  /// With buckets as recommended; none where no buckets travel as messages.
  std::vector<Trial> ring_depths;
};
inline constexpr index_t kTrialBytes = index_t{32} << 20;

/// Tries sizes from 64 KiB to 4 MiB, for about two seconds, then depths from 1 to 16, for one. With
/// the ranks of `world`, as many as the layout needs, whole steps without their computing: push,
/// sum, optimizer, pull, in turn over the values. Without (null), what a server does with its share
/// of the buckets: the sum of all contributions and the optimizer, and nothing of what travelling
/// costs. All ranks get the same. `config` has been fitted to its data and checked.
BucketTrials measure_buckets(const RunConfig& config, const Comm* world);

/// The smallest value that takes at most 3 % longer than the fastest: the smaller a bucket, the
/// earlier the first layers are back.
index_t recommended(const std::vector<Trial>& trials);

/// Tables of the trials, and the recommendations.
std::string trials_text(const RunConfig& config, const BucketTrials& trials, bool with_ranks);

}  // namespace weir
