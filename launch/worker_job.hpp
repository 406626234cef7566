#pragma once

#include <functional>

#include "common/net/mpi.hpp"
#include "launch/job.hpp"
#include "worker/train/trainer.hpp"

namespace weir {

/// What a worker tells whoever keeps the books; called on every worker.
struct WorkerEvents {
  std::function<void(const Directive&)> on_start;  ///< the directive training begins from
  std::function<void(const Directive&)> on_step;
  std::function<void(index_t step, index_t samples)> on_validation_begin;
  std::function<void(index_t step, const worker::Loss&)> on_validation;
};

/// Where a worker's time went.
struct WorkerTimes {
  double total_seconds = 0;
  double waited_seconds = 0;    ///< for servers
  double pipeline_seconds = 0;  ///< for other stages, outside of validation
};

struct WorkerResult {
  Directive last;
  WorkerTimes times;
};

/// Builds a worker at `place` and trains until the servers say stop.
/// `workers`: the group of all workers, none in `local`.
WorkerResult run_worker(const Job& job, const WorkerPlace& place, const Comm& workers,
                        ParameterService& parameters, const WorkerEvents& events);

}  // namespace weir
