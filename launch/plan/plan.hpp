#pragma once

#include <string>
#include <vector>

#include "common/job/bucket.hpp"
#include "launch/run_config.hpp"

namespace weir {

/// What one rank will hold, and what it sends and receives in a step. Bytes. Memory is an estimate;
/// with 12.7 M parameters, d = 512 and length 512 it says 483 MiB for one process and 365 for a
/// server, measured were 505 and 381.
struct RankPlan {
  index_t rank = 0;
  bool is_server = false;
  WorkerPlace place;                   ///< of a worker
  ElementRange units;                  ///< of a worker
  index_t elements = 0;                ///< of parameters
  std::vector<index_t> buckets;        ///< a server's own; those that a worker reads
  index_t pushed_bytes = 0;            ///< by a worker; what a server receives
  index_t pulled_bytes = 0;            ///< by a worker; what a server sends
  index_t parameter_memory_bytes = 0;  ///< weights, gradients, moments, contributions, copies
  index_t activation_memory_bytes = 0;
  index_t memory_bytes() const { return parameter_memory_bytes + activation_memory_bytes; }
};

/// A process without a model: MPI, OpenBLAS after a product, libraries. Measured, resident: 22 MiB
/// alone, 24 under mpirun.
inline constexpr index_t kProcessBytes = index_t{24} << 20;

/// All ranks of a job, in their order; colocated, what each holds as a worker, then what each holds
/// as a server. `config` has been fitted to its data and checked.
std::vector<RankPlan> rank_plans(const RunConfig& config);

/// What `weir plan` prints. `peak_flops`: FLOP/s of a rank, for the schedule's times.
std::string plan_text(const RunConfig& config, double peak_flops);

}  // namespace weir
