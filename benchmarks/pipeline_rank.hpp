#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "worker/schedule/schedule.hpp"

namespace weir::benchmark {

/// A pipeline whose stages sleep: forward, input gradient and weight gradient of a micro-batch on a
/// stage take `sleep_us` each, which its chunks share.
struct PipelineJob {
  worker::ScheduleKind kind = worker::ScheduleKind::one_forward_one_backward;
  worker::Pipeline pipeline;
  index_t micro_batches = 1;
  index_t sleep_us = 1000;
  index_t steps = 1;  ///< after one that warms up
};

/// Seconds of each step under mpirun, from when all stages are ready until the last is through.
std::vector<double> seconds_of_steps(const PipelineJob& job);

/// True if mpirun started this process as a rank of such a job. Then main calls run_pipeline_rank.
bool is_pipeline_rank(int argument_count, char** arguments);

/// Makes the steps with a real stage, whose link is the real one. Returns the exit code.
int run_pipeline_rank(int argument_count, char** arguments);

}  // namespace weir::benchmark
