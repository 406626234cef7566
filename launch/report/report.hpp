#pragma once

#include "common/io/file.hpp"
#include "launch/report/report_page.hpp"

namespace weir {

/// What `weir report` shows of a run folder, as it is now: the run may go on. Throws UsageError if
/// there is no such folder, Error if it has no metrics.jsonl or no step has been done yet.
ReportPage report_of(const fs::path& run);

}  // namespace weir
