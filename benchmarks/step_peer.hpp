#pragma once

#include <string>
#include <vector>

#include "worker/models/transformer/config.hpp"

namespace weir::benchmark {

/// One form of the training step in PyTorch: a line of `peers/step.py --json`.
struct StepPeer {
  std::string attention;  ///< `dense`, `chunked 32`, …
  std::string mode;       ///< `eager` or `compiled`
  std::string precision;  ///< `fp32` or `bf16`
  std::string torch;      ///< its version
  double tokens_per_second = 0;
  std::string error;  ///< why PyTorch cannot run it; empty if it can

  std::string name() const { return attention + ", " + mode; }
};

/// All forms of a precision on one thread, the fastest first and those with errors last; the median
/// of `steps` steps each, after a first. Takes minutes. Throws Error if the script fails.
std::vector<StepPeer> all_step_peers(const worker::ModelConfig& model, const std::string& precision,
                                     index_t steps);

/// This form once more, for a model perhaps of another width.
StepPeer run_again(const StepPeer& peer, const worker::ModelConfig& model, index_t steps);

}  // namespace weir::benchmark
