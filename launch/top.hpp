#pragma once

#include <string>
#include <vector>

#include "launch/run/live.hpp"

namespace weir {

/// What `weir top` shows of a job: a row a rank. A rank whose record is older than the others says
/// how much.
std::string top_table(const std::vector<LiveRecord>& records);

/// The records of the job that runs in this folder. Throws Error if there is none, or if what is
/// there is left from a job that is gone.
std::vector<LiveRecord> records_of_job(const fs::path& run);

}  // namespace weir
