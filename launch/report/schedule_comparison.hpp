#pragma once

#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "launch/run_config.hpp"
#include "launch/terminal/summary.hpp"
#include "launch/trace/trace_reader.hpp"

namespace weir {

/// A pipeline's step as the schedule has it and as it was. A pipeline is the stages of one replica,
/// context and shard.
struct ScheduleComparison {
  struct Step {
    double makespan_s = 0;  ///< from the first computing action's begin to the last one's end
    double idle_share = 0;  ///< share of stages x makespan: "the bubble"
  };
  struct ChunkTime {
    std::string action;
    index_t chunk = 0;
    double seconds = 0;  ///< one micro-batch, without waits
  };
  index_t step_count = 0;  ///< steps of all pipelines that were compared
  index_t pipeline_count = 0;
  index_t micro_batches = 0;
  Step planned;                  ///< if each action takes its time below and links are free
  Step real;                     ///< medians of the steps
  std::vector<ChunkTime> times;  ///< medians of the computing actions, by chunk
};

/// Compares the steps that the trace holds whole and that have as many micro-batches as the last
/// one; a trace's first step warms up and does not count. Throws Error if there is no such step, or
/// if the trace is not that of a job with this configuration.
ScheduleComparison compare_schedule(const std::vector<TracedWorker>& workers,
                                    const RunConfig& config);

/// That as rows of a name and a value, for a run whose config.ini names a trace; none for another.
/// If the trace or the configuration is of no use, a row says why.
Rows schedule_rows(const fs::path& run);

}  // namespace weir
