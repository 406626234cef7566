#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::worker {

/// What is wrong with the gradient of a step.
enum class FaultKind {
  bad,       ///< its targets are random, and it is `factor` times as large
  scale,     ///< it is `factor` times as large, and else as it should be
  tensor,    ///< that of one parameter, drawn, is `factor` times as large
  flip,      ///< one element, drawn, is kFlipped
  overflow,  ///< one element, drawn, is infinite
};

inline constexpr float kFlipped = 1e30F;
constexpr bool strikes_one_element(FaultKind kind) {
  return kind == FaultKind::flip || kind == FaultKind::overflow;
}
inline constexpr index_t kFirstFaultyStep = 100;  ///< unless a fault names its steps

/// Affects a share of the steps first … last; whether it affects a step is drawn by the step's
/// number.
struct Fault {
  FaultKind kind = FaultKind::bad;
  double factor = 1;
  double share = 1;
  index_t first = kFirstFaultyStep;
  index_t last = std::numeric_limits<index_t>::max();
};

/// Faults on purpose, to see what they cost.
struct Injection {
  double sleep_seconds = 0;             ///< before each step of every replica
  std::optional<index_t> slow_replica;  ///< none: any, each drawn for itself
  double factor = 1;          ///< its steps, the sleep included, take this many times as long
  double share = 1;           ///< part of its steps, drawn by their number
  std::vector<Fault> faults;  ///< faults of gradients
};

/// Comma-separated: `slow=1:3x` (replica 1, three times as long) or `slow=1:5x:20%` (in a fifth of
/// its steps), `slow=any:5x:5%` (each of them, now and then); `sleep=50ms` (all replicas, each
/// step); and, each for a share of the steps as `1%` or for steps as `300-319` or `300-`,
/// `bad=1%:30x`, `scale=300-:4x`, `tensor=1%:1000x`, `flip=1%`, `overflow=1%`. Throws UsageError
/// for anything else.
Injection parse_injection(const std::string& words);

/// Seconds that `replica` is to wait before step `step` if its computing takes `seconds`.
double injected_seconds(const Injection& injection, index_t replica, index_t step,
                        std::uint64_t seed, double seconds);

/// Whether this fault strikes step `step` of a job with this seed.
bool strikes(const Fault& fault, index_t step, std::uint64_t seed);
/// Whether the targets of this step are to be random.
bool has_random_targets(const Injection& injection, index_t step, std::uint64_t seed);
/// What a fault that hits one of `count` hits in this step.
index_t struck(const Fault& fault, index_t step, std::uint64_t seed, index_t count);

}  // namespace weir::worker
