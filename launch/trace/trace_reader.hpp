#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "common/io/file.hpp"
#include "common/job/layout.hpp"

namespace weir {

/// An action of a step of training, as a trace tells.
struct TracedAction {
  std::string name;  ///< as name_of(ActionKind) says it
  index_t step = 0;
  index_t chunk = 0;
  index_t micro_batch = 0;
  double begin_s = 0;  ///< since the trace began, by rank 0's clock
  double end_s = 0;
  double waited_s = 0;  ///< within it, for others
  double seconds() const { return std::max(0.0, end_s - begin_s - waited_s); }
};

/// What one worker did, in the order of time.
struct TracedWorker {
  WorkerPlace place;
  index_t dropped_count = 0;  ///< older spans of it that had no room
  std::vector<TracedAction> actions;
};

/// Reads the workers' actions out of a file that JobTrace wrote; a line at a time, so that memory
/// follows the actions. Lines that are none of its own do no harm. Throws Error if the file cannot
/// be read or holds no worker.
std::vector<TracedWorker> read_trace(const fs::path& file);

}  // namespace weir
