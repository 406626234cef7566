#include "benchmarks/one_core.hpp"

namespace weir::benchmark {

OneCore::OneCore() {
  CPU_ZERO(&before_);
  sched_getaffinity(0, sizeof before_, &before_);
  for (int core = CPU_SETSIZE; core-- > 0;) {
    if (!CPU_ISSET(core, &before_)) continue;
    cpu_set_t last;
    CPU_ZERO(&last);
    CPU_SET(core, &last);
    sched_setaffinity(0, sizeof last, &last);
    return;
  }
}

OneCore::~OneCore() { sched_setaffinity(0, sizeof before_, &before_); }

}  // namespace weir::benchmark
