#pragma once

#include <memory>
#include <vector>

#include "common/job/bucket.hpp"
#include "launch/run_config.hpp"
#include "worker/data/dataset.hpp"

namespace weir {

/// What follows from a configuration alone, the same on every rank: the data, the model's
/// parameters, which stage runs which unit, which bucket lives where.
struct Job {
  RunConfig config;
  std::unique_ptr<worker::Dataset> dataset;
  std::vector<index_t> first_unit;  ///< one entry a chunk
  std::unique_ptr<BucketPlan> plan;
};

/// Opens the data, completes and checks the configuration, makes the plan. Throws UsageError or
/// Error. No MPI.
Job make_job(RunConfig config);

}  // namespace weir
