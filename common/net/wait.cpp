#include "common/net/wait.hpp"

#include <algorithm>
#include <thread>

namespace weir {

using namespace std::chrono_literals;

constexpr auto kSpin = 20us;
constexpr auto kYield = 200us;
constexpr auto kFirstNap = 50us;
constexpr auto kLongestNap = 1000us;

void Backoff::pause() {
  const auto now = std::chrono::steady_clock::now();
  if (!idle_) {
    idle_ = true;
    idle_since_ = now;
    nap_ = kFirstNap;
    return;
  }
  const auto idle_time = now - idle_since_;
  if (idle_time < kSpin) return;
  if (idle_time < kYield) {
    std::this_thread::yield();
    return;
  }
  std::this_thread::sleep_for(nap_);
  nap_ = std::min<std::chrono::microseconds>(2 * nap_, kLongestNap);
}

}  // namespace weir
