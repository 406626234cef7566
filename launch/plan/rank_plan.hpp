#pragma once

#include <vector>

#include "common/base/interval.hpp"
#include "common/job/bucket.hpp"
#include "launch/run_config.hpp"

namespace weir {

/// What one rank will hold, and what it sends and receives in a step, in bytes. The replicas of a
/// group (--sum-groups) are taken to be on one host, where servers are not. Memory is an
/// estimate: for 12.7 M parameters, d = 512 and length 512 it is 483 MiB for one process and 365
/// for a server; measured were 505 and 381.
struct RankPlan {
  index_t rank = 0;
  bool is_server = false;
  WorkerPlace place;                   ///< a worker's
  std::vector<Interval> units;         ///< a worker's, chunk after chunk
  index_t elements = 0;                ///< parameters, counted by element
  std::vector<index_t> buckets;        ///< a server's own; those that a worker reads
  index_t pushed_bytes = 0;            ///< what a worker sends or a server receives
  index_t pulled_bytes = 0;            ///< what a worker receives or a server sends
  index_t parameter_memory_bytes = 0;  ///< weights, gradients, moments, contributions, copies
  index_t activation_memory_bytes = 0;
  index_t packed_memory_bytes = 0;  ///< weights once more, as products read them
  index_t memory_bytes() const {
    return parameter_memory_bytes + activation_memory_bytes + packed_memory_bytes;
  }
};

/// A process without a model: MPI, products of OpenBLAS and oneDNN, libraries. Measured, resident:
/// 29 MiB alone, 34 (a server) to 37 (a worker) under mpirun.
inline constexpr index_t kProcessBytes = index_t{37} << 20;

/// What servers keep of these elements where the pull wire sends differences: the weights as
/// workers have them, and a copy of that while a checkpoint is written.
index_t sent_weights_memory(const BucketPlan& plan, index_t elements);

/// All ranks of a job, in their order. If workers and servers are colocated, each rank appears
/// twice: first all as workers, then all as servers. `config` has been fitted to its data and
/// checked.
std::vector<RankPlan> rank_plans(const RunConfig& config);

}  // namespace weir
