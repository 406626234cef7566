#pragma once

#include <optional>
#include <span>

#include "common/base/index.hpp"
#include "common/base/list.hpp"

namespace weir::ps {

/// The number of steps over which shares are measured before they may change.
inline constexpr index_t kBalanceSteps = 20;
/// Shares change only if a step becomes shorter by at least this part: else noise would move them.
inline constexpr double kBalanceGain = 0.05;

/// How many micro-batches of a step each replica takes, if slower replicas take fewer. The sum
/// never changes, and every replica has at least one.
class Balance {
 public:
  /// Begins with even shares: see share_of.
  Balance(index_t micro_batches, index_t replicas);

  const List<index_t>& counts() const { return counts_; }
  void set(List<index_t> counts);  ///< forgets what was measured
  /// Adds the seconds that each replica computed in a step.
  void measured(std::span<const double> seconds);
  /// Returns new counts if kBalanceSteps steps were measured since the last call that returned
  /// some, and if changing the present counts gains enough.
  std::optional<List<index_t>> propose();

 private:
  List<index_t> counts_;
  List<List<double>> seconds_;  ///< each replica's, for one micro-batch in each step
};

/// The counts, each at least 1 and `micro_batches` in all, for which the longest of
/// counts[i] * seconds[i] is shortest. seconds[i] > 0.
List<index_t> balanced(index_t micro_batches, std::span<const double> seconds);

}  // namespace weir::ps
