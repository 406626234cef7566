#include "worker/schedule/schedule.hpp"

#include <algorithm>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir::worker {
namespace {

using Actions = List<Action>;

constexpr index_t kNoSlot = -1;

// Pass 1: what a stage computes, in order.
Actions compute_list(ScheduleKind kind, index_t stage, index_t stages, index_t micro_batches) {
  index_t ahead =
      0;  // forwards before the first backward, less the one that precedes each backward
  switch (kind) {
    case ScheduleKind::gpipe:
      ahead = micro_batches;
      break;
    case ScheduleKind::one_forward_one_backward:
      ahead = std::min(stages - 1 - stage, micro_batches);
      break;
  }
  Actions list;
  for (index_t i = 0; i < ahead; ++i) list.push_back({ActionKind::forward, stage, i, kNoSlot});
  for (index_t i = 0; i < micro_batches; ++i) {
    if (ahead + i < micro_batches) {
      list.push_back({ActionKind::forward, stage, ahead + i, kNoSlot});
    }
    list.push_back({ActionKind::backward, stage, i, kNoSlot});
  }
  return list;
}

// Pass 2: each result is sent as soon as it exists, each input awaited as late as possible.
Actions with_messages(const Actions& compute, index_t stage, index_t stages) {
  const bool first = stage == 0;
  const bool last = stage == stages - 1;
  Actions list;
  for (const Action& action : compute) {
    const bool forward = action.kind == ActionKind::forward;
    const auto add = [&](ActionKind kind) {
      list.push_back({kind, action.chunk, action.micro_batch, kNoSlot});
    };
    if (forward && !first) add(ActionKind::receive_forward);
    if (!forward && !last) add(ActionKind::receive_backward);
    list.push_back(action);
    if (forward && !last) add(ActionKind::send_forward);
    if (!forward && !first) add(ActionKind::send_backward);
  }
  return list;
}

// Pass 3: each forward gets the lowest free activation slot, and its backward the same one;
// messages take the link's slots in turn. Returns the number of activation slots.
index_t assign_slots(Actions& list, index_t link_slots, bool has_backward) {
  List<index_t> micro_batch_in;  // one a slot; kNoSlot: it is free
  for (Action& action : list) {
    if (action.kind == ActionKind::forward) {
      auto at = std::ranges::find(micro_batch_in, kNoSlot);
      if (at == micro_batch_in.end()) at = micro_batch_in.insert(at, kNoSlot);
      if (has_backward) *at = action.micro_batch;
      action.slot = at - micro_batch_in.begin();
    } else if (action.kind == ActionKind::backward) {
      const auto at = std::ranges::find(micro_batch_in, action.micro_batch);
      WEIR_ASSERT(at != micro_batch_in.end());
      *at = kNoSlot;
      action.slot = at - micro_batch_in.begin();
    } else {
      action.slot = action.micro_batch % link_slots;
    }
  }
  return micro_batch_in.size();
}

Schedule lower(List<Actions> compute, index_t micro_batches, index_t link_slots,
               bool has_backward) {
  WEIR_ASSERT(link_slots >= 1);
  Schedule schedule{micro_batches, link_slots, has_backward, {}, {}};
  const index_t stages = compute.size();
  for (index_t stage = 0; stage < stages; ++stage) {
    Actions list = with_messages(compute[stage], stage, stages);
    schedule.activation_slots.push_back(assign_slots(list, link_slots, has_backward));
    schedule.actions.push_back(std::move(list));
  }
  return schedule;
}

const char* letters(ActionKind kind) {
  switch (kind) {
    case ActionKind::forward:
      return "F";
    case ActionKind::backward:
      return "B";
    case ActionKind::send_forward:
      return "SF";
    case ActionKind::receive_forward:
      return "RF";
    case ActionKind::send_backward:
      return "SB";
    case ActionKind::receive_backward:
      return "RB";
  }
  WEIR_UNREACHABLE();
}

}  // namespace

Schedule make_schedule(ScheduleKind kind, index_t stages, index_t micro_batches,
                       index_t link_slots) {
  WEIR_ASSERT(stages >= 1 && micro_batches >= 1);
  List<Actions> compute;
  for (index_t stage = 0; stage < stages; ++stage) {
    compute.push_back(compute_list(kind, stage, stages, micro_batches));
  }
  return lower(std::move(compute), micro_batches, link_slots, true);
}

Schedule make_forward_only(index_t stages, index_t micro_batches, index_t link_slots) {
  WEIR_ASSERT(stages >= 1 && micro_batches >= 1);
  List<Actions> compute(stages);
  for (index_t stage = 0; stage < stages; ++stage) {
    for (index_t i = 0; i < micro_batches; ++i) {
      compute[stage].push_back({ActionKind::forward, stage, i, kNoSlot});
    }
  }
  return lower(std::move(compute), micro_batches, link_slots, false);
}

std::string to_text(const Action& action) {
  return text(action.chunk, letters(action.kind), action.micro_batch);
}

std::string to_text(const Schedule& schedule) {
  std::string out;
  for (const Actions& list : schedule.actions) {
    for (index_t i = 0; i < list.size(); ++i) out += text(i == 0 ? "" : " ", to_text(list[i]));
    out += '\n';
  }
  return out;
}

}  // namespace weir::worker
