#include "common/base/wait.hpp"

#include <algorithm>
#include <thread>

#include "common/base/machine.hpp"

namespace weir {

constexpr double kSpinSeconds = 20e-6;
constexpr double kYieldSeconds = 200e-6;
constexpr double kNapShare = 1.0 / 32;  // of the wait so far: what a nap may add to it
constexpr index_t kShortestNapMicroseconds = 50;
constexpr index_t kLongestNapMicroseconds = 1000;

void Backoff::pause() {
  const double now_s = seconds_now();
  if (!idle_) {
    idle_ = true;
    idle_since_s_ = now_s;
  }
  const double idle_s = now_s - idle_since_s_;
  if (idle_s < kSpinSeconds) return;
  if (idle_s < kYieldSeconds) {
    std::this_thread::yield();
    return;
  }
  const auto nap_us = static_cast<index_t>(1e6 * idle_s * kNapShare);
  sleep_microseconds(std::clamp(nap_us, kShortestNapMicroseconds, kLongestNapMicroseconds));
}

}  // namespace weir
