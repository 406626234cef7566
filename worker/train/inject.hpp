#pragma once

#include <optional>
#include <string>

#include "common/number/index.hpp"

namespace weir::worker {

/// A replica that a job makes slow on purpose, to see what that costs.
struct SlowReplica {
  index_t replica = 0;
  double factor = 1;  ///< its steps take so many times as long
  double share = 1;   ///< of its steps, drawn by their number
};

/// `slow=1:3x` (replica 1, three times as long) or `slow=1:5x:20%` (a fifth of its steps); none for
/// an empty text. Throws UsageError for anything else.
std::optional<SlowReplica> parse_injection(const std::string& text);

/// Seconds that step `step` of `replica` is to wait if its computing takes `seconds`.
double injected_seconds(const std::optional<SlowReplica>& slow, index_t replica, index_t step,
                        std::uint64_t seed, double seconds);

}  // namespace weir::worker
