#pragma once

#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::benchmark {

/// Where the time of a worker goes in one training step: seconds.
struct StepProfile {
  double total = 0;
  double packing = 0;
  double products = 0;   ///< with matrices of weights, forward, backward and their gradients
  double attention = 0;  ///< without its projections
  /// Norms, GELU, rotary positions, residuals, softmax of the loss, embedding, conversions.
  double others() const { return total - packing - products - attention; }
};

/// Steps of the one worker of a job that `weir train` would run with these options, in this process
/// and with weights that nobody changes: no server, so no optimizer. Each call of a kernel is
/// timed, a few hundred in a step. The first step, which allocates, is left out.
std::vector<StepProfile> profile_steps(const std::vector<std::string>& options, index_t steps);

}  // namespace weir::benchmark
