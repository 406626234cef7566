#pragma once

#include <time.h>

#include <string>

#include "common/base/index.hpp"

namespace weir {

/// What the machine and the process on it are, and the clock. A program under a simulator replaces
/// these and worker/kernels/cpu/blas, and nothing else.

/// The time of a clock that never goes back; only differences mean anything.
double seconds_now();

/// How long one thread has computed, for other threads to look at.
class ThreadClock {
 public:
  ThreadClock();  ///< the clock of the thread that makes it
  /// 0 if the system does not tell.
  double seconds() const;

 private:
  clockid_t clock_{};
};

/// Sleeps for at least this long, and for the timer slack of the thread (50 us) in addition.
void sleep_microseconds(index_t microseconds);

/// The most memory the process has held at once since it started its program.
index_t peak_resident_bytes();

std::string cpu_name();  ///< as in /proc/cpuinfo; "unknown" if that does not say
std::string host_name();
int core_count();  ///< cores on which this process may run; at least 1

}  // namespace weir
