#pragma once

#include <chrono>

namespace weir {

/// How a rank waits: at first it spins (an answer is often microseconds away), then it lets others
/// have the core, then it sleeps, longer each time up to 1 ms. Measured: a nap asked as 1 us takes
/// 30 to 90 us; yielding for ever keeps a core busy in the kernel.
class Backoff {
 public:
  /// Call after a look that found nothing.
  void pause();
  /// Call after a look that found something.
  void reset() { idle_ = false; }

 private:
  bool idle_ = false;
  std::chrono::steady_clock::time_point idle_since_;
  std::chrono::microseconds nap_{};
};

/// Looks at `done()` until it is true. Between the looks calls `progress()`, which moves other
/// traffic on and says whether anything moved (then the wait stays wide awake).
template <class Done, class Progress>
void wait_until(Done&& done, Progress&& progress) {
  Backoff backoff;
  while (!done()) {
    if (progress()) {
      backoff.reset();
    } else {
      backoff.pause();
    }
  }
}

template <class Done>
void wait_until(Done&& done) {
  wait_until(done, [] { return false; });
}

}  // namespace weir
