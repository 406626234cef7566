#include "common/net/wait.hpp"

#include <algorithm>
#include <thread>

#include "common/base/machine.hpp"

namespace weir {

constexpr double kSpin_s = 20e-6;
constexpr double kYield_s = 200e-6;
constexpr index_t kFirstNap_us = 50;
constexpr index_t kLongestNap_us = 1000;

void Backoff::pause() {
  const double now_s = seconds_now();
  if (!idle_) {
    idle_ = true;
    idle_since_s_ = now_s;
    nap_us_ = kFirstNap_us;
  }
  const double idle_s = now_s - idle_since_s_;
  if (idle_s < kSpin_s) return;
  if (idle_s < kYield_s) {
    std::this_thread::yield();
    return;
  }
  sleep_microseconds(nap_us_);
  nap_us_ = std::min(2 * nap_us_, kLongestNap_us);
}

}  // namespace weir
