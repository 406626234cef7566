#pragma once

#include <limits>
#include <optional>
#include <string>

#include "common/base/index.hpp"
#include "worker/schedule/schedule.hpp"

namespace weir::worker {

/// What one micro-batch takes in one chunk.
struct ChunkCost {
  double forward_s = 1;
  double input_gradient_s = 1;
  double weight_gradient_s = 1;
  index_t activation_bytes = 0;  ///< an activation slot
  index_t gradient_bytes = 0;    ///< a gradient slot

  /// 0 for messages.
  double seconds_of(ActionKind kind) const;
};

/// link_s: from the start of a frame's transfer to its arrival. Transfers do not slow each other,
/// nor the computation; sends and receives themselves take no time.
struct ScheduleCosts {
  List<ChunkCost> chunks;
  double link_s = 0;
  /// What the slots of a stage may take together.
  index_t slot_bytes_max = std::numeric_limits<index_t>::max();
};

/// The time in which an action computed.
struct ComputeSpan {
  Action action;
  double begin_s;
  double end_s;
};

struct ScheduleReport {
  double makespan_s = 0;  ///< until the last stage has finished its list
  double idle_share = 0;  ///< idle time over stages x makespan; "the bubble", 0 to 1
  /// The most activations that each stage keeps at a time, of all its chunks: with v chunks each is
  /// about 1 / v of what a stage with one chunk keeps.
  List<index_t> peak_activations;
  List<index_t> slot_bytes;       ///< what each stage's slots take
  index_t messages = 0;           ///< frames that all stages send
  List<List<ComputeSpan>> spans;  ///< each stage's, in order of time
};

/// A report if the schedule keeps to the contract of schedule.hpp, else what is wrong with it.
struct ScheduleVerdict {
  std::optional<ScheduleReport> report;
  std::string fault;  ///< empty if there is a report
};

/// Proves without MPI that a schedule is complete, keeps its order and its slots, and cannot
/// deadlock under the rule of links in schedule.hpp (rendezvous; receives posted link_slots ahead;
/// a send waits only for its own buffer), and says how long it takes.
///
/// First each stage alone: every micro-batch has in every chunk exactly one forward, one backward
/// or both its halves, and its messages, each kind ascending; inputs are received before they are
/// read, results sent after they are made and before they are overwritten; a slot is not taken
/// before it has been freed, and is read by the action that it was filled for; a message names its
/// buffer, and no receive awaits a frame whose buffer still holds an unread one; each chunk pushes
/// once, when its gradients are complete, the last chunk first. Frame i of a link is therefore
/// micro-batch i at both ends. The slots of a stage keep to the limit.
///
/// Then all stages together, run to completion; each action starts as soon as the rule allows, so
/// times are exact for the given costs. If no stage can go on, the fault names the action that each
/// stage waits at, and what for.
///
/// costs.chunks has one entry a chunk. Cost: linear in the number of actions.
ScheduleVerdict check(const Schedule& schedule, const ScheduleCosts& costs);

}  // namespace weir::worker
