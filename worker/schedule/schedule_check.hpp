#pragma once

#include <optional>
#include <string>

#include "common/base/index.hpp"
#include "worker/schedule/schedule.hpp"

namespace weir::worker {

/// Seconds of one micro-batch on one stage; backward is the input and the weight gradient together.
struct StageCost {
  double forward_s = 1;
  double backward_s = 2;
};

/// link_s: from the start of a frame's transfer to its arrival. Transfers do not slow each other,
/// nor the computation; sends and receives themselves take no time.
struct ScheduleCosts {
  List<StageCost> stages;
  double link_s = 0;
};

/// The time in which a forward or backward ran.
struct ComputeSpan {
  Action action;
  double begin_s;
  double end_s;
};

struct ScheduleReport {
  double makespan_s = 0;           ///< until the last stage has finished its list
  double idle_share = 0;           ///< idle time over stages x makespan; "the bubble", 0 to 1
  List<index_t> peak_activations;  ///< each stage's
  List<List<ComputeSpan>> spans;   ///< each stage's, in order of time
};

/// A report if the schedule keeps to the contract of schedule.hpp, else what is wrong with it.
struct ScheduleVerdict {
  std::optional<ScheduleReport> report;
  std::string fault;  ///< empty if there is a report
};

/// Proves without MPI that a schedule is complete, keeps its order and its slots, and cannot
/// deadlock under the rule of links in schedule.hpp (rendezvous; receives posted link_slots ahead;
/// a send waits only for its own buffer), and says how long it takes.
///   1. Each stage alone: every micro-batch has exactly one forward, one backward and its messages,
///      each kind ascending; inputs are received before they are read, results sent after they are
///      made and before they are overwritten; an activation slot is not taken before its backward
///      has freed it; a message names its buffer, and no receive awaits a frame whose buffer still
///      holds an unread one. Frame i of a direction is therefore micro-batch i at both ends.
///   2. All stages together, run to completion; each action starts as soon as the rule allows, so
///      times are exact for the given costs. If no stage can go on, the fault names the action that
///      each stage waits at, and what for.
/// costs.stages has one entry a stage. Cost: linear in the number of actions, times the stages.
ScheduleVerdict check(const Schedule& schedule, const ScheduleCosts& costs);

}  // namespace weir::worker
