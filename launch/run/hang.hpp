#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launch/run/live.hpp"

namespace weir {

/// The beginning of the sentence on who stands still, by the rank that speaks for all.
inline constexpr std::string_view kJobStandsStill = "the job stands still: ";

/// What a rank does, in a few words: `waits for weights (rank 2, bucket 17)`, `an fsync`,
/// `computes`. A dedicated server says what it lacks.
std::string doing_text(const LiveRecord& record);

/// Names the odd one out of a job that stood still, in a sentence without its full stop. `reports`:
/// the records of the ranks that their watchdogs have ended. `last_seen`: the newest record of
/// every rank while the job ran. A rank that did not report was stopped or cut off. If all did, it
/// is the one where the chain of who waits for whom ends; if the chain is a circle, that is said.
/// Empty if nobody reported.
std::string describe_hang(const std::vector<LiveRecord>& reports,
                          const std::vector<LiveRecord>& last_seen);

/// The same for the records that a job left in its run folder.
std::string describe_hang(const fs::path& run);

}  // namespace weir
