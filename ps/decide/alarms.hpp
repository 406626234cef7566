#pragma once

#include <deque>
#include <string_view>

#include "common/job/training.hpp"
#include "common/net/messages.hpp"

namespace weir::ps {

/// This number of steps in a row without a finite gradient ends the job.
inline constexpr index_t kSkipsInARowMax = 50;

/// Warns of what users would want to know before they look for it: more than 1 % of the last 1,000
/// steps were skipped; the clip has left less than a thousandth of the gradient for 100 steps,
/// which shows that its threshold has collapsed. It counts from the start of the job; checkpoints
/// do not hold it.
class Alarms {
 public:
  explicit Alarms(Precision precision = Precision::fp32) : precision_(precision) {}

  /// To be called with each directive that closes an update.
  void on_step(const Directive& directive);
  /// This step is skipped because `what`, its loss or its gradient, is not finite: the
  /// `in_a_row`-th of them. Says so, and throws Error after kSkipsInARowMax.
  void on_not_finite(const Directive& directive, std::string_view what, index_t in_a_row) const;

 private:
  Precision precision_;
  std::deque<bool> skipped_;  ///< the newest steps, oldest first
  index_t crushed_in_a_row_ = 0;
};

}  // namespace weir::ps
