#pragma once

#include <vector>

#include "launch/report/chart.hpp"
#include "launch/run/run_log.hpp"

namespace weir {

/// The charts of a run, in the order of the page: those whose fields its lines have and whose
/// values are not all zero or unknown. Which there are says one table in report_charts.cpp.
std::vector<Chart> report_charts(const RunLog& log);

/// Skipped steps with their reason, and where later lives went on; of several within a
/// `columns`-th part of the run the mark of the first counts them.
std::vector<ChartMark> report_marks(const RunLog& log, index_t columns);

/// The steps from the first to the last that any line tells of; never empty.
AxisRange report_steps(const RunLog& log);

/// The mean over the `window` elements around each, of those that are finite; NaN if none is.
std::vector<double> smoothed(const std::vector<double>& values, index_t window);

/// What to call a reason of metrics.jsonl: not_finite is `not finite`.
std::string reason_text(const std::string& reason);

}  // namespace weir
