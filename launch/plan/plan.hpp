#pragma once

#include <string>

#include "launch/run_config.hpp"

namespace weir {

/// What `weir plan --rank` prints: `replica 1, stage 0, shard 1`, `server 0`, or both. Throws
/// UsageError if the job has no such rank.
std::string role_text(const RunConfig& config, index_t rank);

/// What `weir plan` prints. `peak_flops`: FLOP/s of a rank, for the schedule's times.
std::string plan_text(const RunConfig& config, double peak_flops);

}  // namespace weir
