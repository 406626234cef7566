#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::benchmark {

/// What a job of some workers and servers measures.
struct TierJob {
  index_t workers = 1;
  index_t servers = 1;   ///< 0: every worker is one, too (colocated)
  index_t elements = 0;  ///< parameters
  std::vector<index_t> bucket_bytes;
  index_t rounds = 1;   ///< times that everything is measured, one after the other
  index_t updates = 1;  ///< a round of a case, after one that warms up
};

/// The command that runs `job` under mpirun with this program; the results go to `file`.
std::string command_of(const TierJob& job, const std::string& program,
                       const std::filesystem::path& file);

/// True if mpirun started this process as a rank of such a job. Then main calls run_tier_rank.
bool is_tier_rank(int argument_count, char** arguments);

/// Measures, on all ranks together. Rank 0 writes a line a measurement: what, bucket bytes or 0,
/// seconds. What:
///   memcpy, add        of all parameters, on one core
///   adamw, store       the optimizer's step; sum, norm and step: on all servers at once, each with
///                      its share
///   stream, ping       all parameters from a worker to a server as messages; 8 bytes and back
///   window, messages   push, sum, step and pull of all parameters
///   first-, all-       then a transport: from the end of a backward that makes a bucket of 512 KiB
///                      each 5.24 ms (100 MB/s) until the first layer's weights, all weights, are
///                      there
///   allreduce          where workers are servers: MPI_Allreduce, AdamW of everything on each
/// Returns the exit code.
int run_tier_rank(int argument_count, char** arguments);

}  // namespace weir::benchmark
