#pragma once

#include <optional>
#include <vector>

#include "common/net/mpi.hpp"
#include "launch/job.hpp"
#include "worker/groups/worker_groups.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/train/stage.hpp"
#include "worker/train/trainer.hpp"

namespace weir {

/// A worker of a job with all its parts: kernels, groups, links, and the stage that runs on them.
class WorkerJob {
 public:
  /// Collective over `workers`, the group of all workers; there is none in a job of one process.
  /// The arguments outlive this.
  WorkerJob(const Job& job, const WorkerPlace& place, const Comm& workers,
            ParameterService& parameters);
  WorkerJob(const WorkerJob&) = delete;  // its stage points into it
  WorkerJob& operator=(const WorkerJob&) = delete;

  /// Trains until the servers say stop, and tells the observers. Returns the last directive.
  Directive run(std::vector<worker::Observer*> observers);

  /// Time that run() waited for other stages, validations left out.
  double pipeline_seconds() const { return pipeline_seconds_; }

 private:
  void connect();
  worker::StageParts stage_parts();

  const Job& job_;
  const WorkerPlace place_;
  const Comm& workers_;
  ParameterService& parameters_;
  const worker::TransformerModel model_;
  const std::vector<worker::StageCut> cuts_;  ///< this stage's chunks
  worker::CpuKernels kernels_;
  std::optional<worker::WorkerGroups> groups_;
  std::optional<worker::Stage> stage_;
  double pipeline_seconds_ = 0;
};

}  // namespace weir
