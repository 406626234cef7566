#pragma once

#include <string>

#include "worker/schedule/schedule_check.hpp"

namespace weir::worker {

/// The schedule as a picture for `weir plan`: time runs to the right, a line a stage. F3-- is the
/// forward of micro-batch 3, B3== its backward, I3== and W3++ the halves of it (input and weight
/// gradient), blank is waiting; 4F3- is of chunk 4 if stages have several. Below stand makespan and
/// idle share.
///
///   stage 0  F0-F1-F2-            B0====   B1====   B2====
///   stage 1     F0-F1-      B0====F2-B1====   B2====
///   stage 2        F0-B0====F1-B1====F2-B2====
///
/// The shortest span is as wide as the longest label. `width`: of a line, in columns; a schedule
/// that needs more is drawn without its middle, where ` ... ` stands. `report`: what
/// check() says of the schedule.
std::string draw(const Schedule& schedule, const ScheduleReport& report, index_t width = 100);

}  // namespace weir::worker
