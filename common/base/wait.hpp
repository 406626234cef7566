#pragma once

#include <type_traits>

#include "common/base/activity.hpp"
#include "common/base/index.hpp"

namespace weir {

/// How a rank waits: at first it spins (an answer is often microseconds away), then it lets others
/// have the core, then it sleeps, for a thirty-second of the wait so far and at most 1 ms: so a
/// rank is hardly late, and one that waits long looks seldom. Measured: a nap asked as 1 us takes
/// 30 to 90 us; yielding for ever keeps a core busy in the kernel.
class Backoff {
 public:
  /// Call after a look that found nothing.
  void pause();
  /// Call after a look that found something.
  void reset() {
    idle_ = false;
    note_move();
  }

 private:
  bool idle_ = false;
  double idle_since_s_ = 0;
};

/// Calls `done()` until it returns true. Between the calls it calls `progress()`, which moves other
/// traffic on. If `progress` returns a bool, it says whether anything moved, and a wait in which
/// things move does not sleep. A caller that knows what it waits for says so by a Waiting
/// (activity.hpp).
template <class Done, class Progress>
void wait_until(Done&& done, Progress&& progress) {
  Backoff backoff;
  while (!done()) {
    if constexpr (std::is_void_v<std::invoke_result_t<Progress>>) {
      progress();
      backoff.pause();
    } else {
      progress() ? backoff.reset() : backoff.pause();
    }
  }
}

template <class Done>
void wait_until(Done&& done) {
  wait_until(done, [] {});
}

}  // namespace weir
