#pragma once

#include <deque>

#include "common/net/messages.hpp"

namespace weir::ps {

/// Warns of what users would want to know before they look for it: more than 1 % of the last 1,000
/// steps were skipped; the clip has left less than a thousandth of the gradient for 100 steps,
/// which shows that its threshold has collapsed. It counts from the start of the job; checkpoints
/// do not hold it.
class Alarms {
 public:
  /// To be called with each directive that closes an update.
  void on_step(const Directive& directive);

 private:
  std::deque<bool> skipped_;  ///< the newest steps, oldest first
  index_t crushed_in_a_row_ = 0;
};

}  // namespace weir::ps
