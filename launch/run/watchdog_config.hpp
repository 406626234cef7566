#pragma once

#include <vector>

#include "common/base/options.hpp"

namespace weir {

struct WatchdogConfig {
  bool on = true;       ///< whether a rank of a job that stands still ends
  double floor_s = 30;  ///< see Deadlines
};

std::vector<Option> options(WatchdogConfig& config);

}  // namespace weir
