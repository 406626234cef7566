#include "common/base/wait.hpp"

#include <algorithm>
#include <thread>

#include "common/base/machine.hpp"

namespace weir {

constexpr double kSpinSeconds = 20e-6;
constexpr double kYieldSeconds = 200e-6;
constexpr index_t kFirstNapMicroseconds = 50;
constexpr index_t kLongestNapMicroseconds = 1000;

void Backoff::pause() {
  const double now_s = seconds_now();
  if (!idle_) {
    idle_ = true;
    idle_since_s_ = now_s;
    nap_us_ = kFirstNapMicroseconds;
  }
  const double idle_s = now_s - idle_since_s_;
  if (idle_s < kSpinSeconds) return;
  if (idle_s < kYieldSeconds) {
    std::this_thread::yield();
    return;
  }
  sleep_microseconds(nap_us_);
  nap_us_ = std::min(2 * nap_us_, kLongestNapMicroseconds);
}

}  // namespace weir
