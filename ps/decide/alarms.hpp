#pragma once

#include <deque>

#include "common/net/messages.hpp"

namespace weir::ps {

/// Warns, once a time, of what users would want to know before they look for it: more than 1 % of
/// the last 1,000 steps skipped; a clip that leaves less than a thousandth of the gradient for 100
/// steps, which is how a threshold that has collapsed shows. Since the job began: not in
/// checkpoints.
class Alarms {
 public:
  /// Each directive that closes an update.
  void on_step(const Directive& directive);

 private:
  std::deque<bool> skipped_;  ///< the newest steps, oldest first
  index_t crushed_in_a_row_ = 0;
};

}  // namespace weir::ps
