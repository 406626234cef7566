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

/// What was tried: a model as wide as the configuration's, with layers left out until its
/// parameters take at most kTrialBytes or each stage has one.
struct BucketTrials {
  index_t parameter_bytes = 0;
  index_t rounds = 0;
  std::vector<Trial> bucket_bytes;  ///< the largest size that a bucket may have
  /// Tried with buckets as recommended; empty if no buckets travel as messages.
  std::vector<Trial> ring_depths;
};
inline constexpr index_t kTrialBytes = index_t{32} << 20;

/// Tries sizes from 64 KiB to 4 MiB for about two seconds, then depths from 1 to 16 for one second,
/// in turn over the values. The ranks of `world`, which the layout needs exactly, run whole steps
/// without their computing: push, sum, optimizer, pull. Without `world` (null) one process does
/// what a server does with its share of the buckets, the sum of all contributions and the
/// optimizer; the cost of travelling is left out. All ranks get the same result. `config` has been
/// fitted to its data and checked.
BucketTrials measure_buckets(const RunConfig& config, const Comm* world);

/// The smallest value that takes at most 3 % longer than the fastest. Small buckets are better at
/// equal speed, because the first layers are back earlier.
index_t recommended(const std::vector<Trial>& trials);

/// Tables of the trials, and the recommendations.
std::string trials_text(const RunConfig& config, const BucketTrials& trials, bool with_ranks);

}  // namespace weir
