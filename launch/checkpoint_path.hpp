#pragma once

#include "common/io/file.hpp"
#include "launch/run_config.hpp"

namespace weir {

/// What a path that a user gives for a checkpoint or a run stands for. One of the two is not empty.
struct CheckpointPath {
  fs::path checkpoint;   ///< the path itself, or the folder of a file in a checkpoint
  fs::path checkpoints;  ///< the folder where a run keeps its checkpoints
};

/// Throws UsageError if the path is neither, Error if it is a checkpoint that was never completed.
CheckpointPath checkpoint_path(const fs::path& path);

/// The checkpoint that a path means: itself, or the newest complete one of a run folder. Throws as
/// checkpoint_path does, and Error if a run holds none that is complete.
fs::path checkpoint_at(const fs::path& path);

/// The checkpoint that --resume says to go on from, empty if there is none. Throws UsageError if
/// --resume names something else, or if the run folder holds checkpoints of later steps than
/// training would begin from: the folder would then mix two trainings, and `auto` would later
/// continue the older one.
fs::path checkpoint_to_resume(const RunConfig& config);

}  // namespace weir
