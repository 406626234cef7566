#pragma once

#include <string>
#include <vector>

#include "common/io/manifest.hpp"
#include "launch/job.hpp"

namespace weir {

/// What is another than it was, where a job goes on from a checkpoint. One rank says so.

/// Compares the job's text with that of the checkpoint; warns, naming both, if it is another.
/// Throws UsageError, unless --accept-changed-data is given, if bytes that were held out would be
/// trained on, or if nothing would be trained: then somebody takes a finished run for a new one.
void check_text(const Manifest& checkpoint, const Job& job);

/// Warns if `eval` scores bytes that were trained on; and, unless the user has chosen other files
/// or another held-out part, if they are not those that the checkpoint's run held out.
void warn_of_scored_text(const Manifest& checkpoint, const worker::Dataset& scored, bool is_chosen);

/// Logs the settings with other values, and a learning rate that jumps.
void log_changes(const Manifest& checkpoint, const std::vector<Setting>& settings,
                 const RunConfig& config);

/// A learning rate that is not what the checkpoint's own schedule would have gone on with, by more
/// than a tenth: a line that says from what to what, and why. Empty if it does not jump.
std::string rate_jump(const Manifest& checkpoint, const RunConfig& config);

}  // namespace weir
