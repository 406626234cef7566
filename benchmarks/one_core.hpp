#pragma once

#include <sched.h>

namespace weir::benchmark {

/// While it lives, this thread and the threads and processes that it starts run on one core, the
/// last of those that it may use; where that is refused, as before.
class OneCore {
 public:
  OneCore();
  ~OneCore();
  OneCore(const OneCore&) = delete;
  OneCore& operator=(const OneCore&) = delete;

 private:
  cpu_set_t before_;
};

}  // namespace weir::benchmark
