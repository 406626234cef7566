#pragma once

#include <string>
#include <vector>

#include "common/io/manifest.hpp"
#include "launch/job.hpp"

namespace weir {

/// What has changed between a checkpoint and the job that continues from it. One rank reports it.

/// Compares the job's text with that of the checkpoint, and warns, naming both, if they differ.
/// Throws UsageError, unless --accept-changed-data is given, if bytes that were held out would be
/// trained on, or if nothing would be trained (the user has probably taken a finished run for a new
/// one).
void check_text(const Manifest& checkpoint, const Job& job);

/// Warns if `eval` scores bytes that were trained on. Unless the user has chosen other files or
/// another held-out part, it also warns if the bytes are not those that the checkpoint's run held
/// out.
void warn_of_scored_text(const Manifest& checkpoint, const worker::Dataset& scored, bool is_chosen);

/// Under this name a checkpoint keeps the instructions that its run's products were made with.
inline constexpr const char* kInstructionsNote = "products.instructions";

/// Logs the settings with other values, except those of Scope::machine, and warns of other
/// instructions for products and of a learning rate that jumps. `settings`: those of `config`.
void log_changes(const Manifest& checkpoint, const std::vector<Setting>& settings,
                 const RunConfig& config);

/// A line that says that products are made with other instructions than in the checkpoint's run;
/// empty if not, or if the checkpoint is too old to say.
std::string instructions_change(const Manifest& checkpoint, const RunConfig& config);

/// A line that says from what to what the learning rate jumps, and why; empty if the next rate is
/// within a tenth of what the checkpoint's own schedule would have been.
std::string rate_jump(const Manifest& checkpoint, const RunConfig& config);

}  // namespace weir
