#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/number/index.hpp"

namespace weir::worker {

/// Faults on purpose, to see what they cost.
struct Injection {
  double sleep_seconds = 0;             ///< before each step of every replica
  std::optional<index_t> slow_replica;  ///< none: any, each drawn for itself
  double factor = 1;      ///< its steps, the sleep included, take so many times as long
  double share = 1;       ///< of its steps, drawn by their number
  double bad_share = 0;   ///< of the steps from kFirstBadStep on, in which all is bad:
  double bad_factor = 1;  ///< targets are random, and gradients so many times as large
};

inline constexpr index_t kFirstBadStep = 100;

/// Comma-separated: `slow=1:3x` (replica 1, three times as long) or `slow=1:5x:20%` (in a fifth of
/// its steps), `slow=any:5x:5%` (each of them, now and then); `sleep=50ms` (all replicas, each
/// step); `bad=1%:30x` (corrupted batches). Throws UsageError for anything else.
Injection parse_injection(const std::string& words);

/// Seconds that `replica` is to wait before step `step` if its computing takes `seconds`.
double injected_seconds(const Injection& injection, index_t replica, index_t step,
                        std::uint64_t seed, double seconds);

/// Whether step `step` of a job with this seed is to be a bad one.
bool is_bad_step(const Injection& injection, index_t step, std::uint64_t seed);

}  // namespace weir::worker
