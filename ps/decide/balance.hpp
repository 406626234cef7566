#pragma once

#include <optional>
#include <span>
#include <vector>

#include "common/base/index.hpp"

namespace weir::ps {

/// Shares are measured over so many steps before they may change.
inline constexpr index_t kBalanceSteps = 20;
/// And change only if a step is to become shorter by this part: else noise would move them.
inline constexpr double kBalanceGain = 0.05;

/// How many micro-batches of a step each replica takes, when those that are slower are to take
/// fewer. Their sum never changes and everybody has one at least.
class Balance {
 public:
  /// Begins even: see share_of.
  Balance(index_t micro_batches, index_t replicas);

  const std::vector<index_t>& counts() const { return counts_; }
  void set(std::vector<index_t> counts);  ///< forgets what was measured
  /// Seconds that each replica computed in a step.
  void measured(std::span<const double> seconds);
  /// The new counts if kBalanceSteps steps were measured since the last call that had them, and
  /// others than the present ones gain enough.
  std::optional<std::vector<index_t>> propose();

 private:
  std::vector<index_t> counts_;
  std::vector<std::vector<double>> seconds_;  ///< each replica's, for one micro-batch in each step
};

/// The counts, each at least 1 and `micro_batches` in all, for which the longest of
/// counts[i] * seconds[i] is shortest. seconds[i] > 0.
std::vector<index_t> balanced(index_t micro_batches, std::span<const double> seconds);

}  // namespace weir::ps
