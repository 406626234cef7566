#pragma once

#include <vector>

#include "launch/report/chart.hpp"
#include "launch/run/run_log.hpp"

namespace weir {

/// The charts of a run, in the order of the page: those whose fields its lines have and whose
/// values are not all zero or unknown. One table in report_charts.cpp lists them.
std::vector<Chart> report_charts(const RunLog& log);

/// Marks for skipped steps, with their reason, and for the steps at which later lives went on. If
/// several fall into one of `columns` parts of the run, the mark of the first counts them.
std::vector<ChartMark> report_marks(const RunLog& log, index_t columns);

/// The steps from the first to the last that any line tells of; never empty.
AxisRange report_steps(const RunLog& log);

/// For each element the mean over the finite ones among the `window` elements around it; NaN if
/// none is finite.
std::vector<double> smoothed(const std::vector<double>& values, index_t window);

/// A reason of metrics.jsonl in words: not_finite becomes `not finite`.
std::string reason_text(const std::string& reason);

}  // namespace weir
