#include "worker/schedule/stage_walk.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir::worker {
namespace {

// A chunk has messages with the neighbours that exist: the first has none before it, the last none
// after it.
bool belongs(ActionKind kind, index_t chunk, const Schedule& schedule) {
  const bool first = chunk == 0;
  const bool last = chunk == schedule.chunks() - 1;
  switch (kind) {
    case ActionKind::forward:
      return true;
    case ActionKind::backward:
    case ActionKind::input_gradient:
      return schedule.has_backward && kind == backward_kind(schedule, chunk);
    case ActionKind::weight_gradient:
      return schedule.has_backward && schedule.gradient_slots[chunk] > 0;
    case ActionKind::send_forward:
      return !last;
    case ActionKind::receive_forward:
      return !first;
    case ActionKind::send_backward:
      return schedule.has_backward && !first;
    case ActionKind::receive_backward:
      return schedule.has_backward && !last;
  }
  WEIR_UNREACHABLE();
}

bool is_slot(index_t slot, const List<index_t>& slots) { return slot >= 0 && slot < slots.size(); }

}  // namespace

StageWalk::StageWalk(const Schedule& schedule, index_t stage) : schedule_(schedule), stage_(stage) {
  for (index_t chunk = stage; chunk < schedule.chunks(); chunk += schedule.stages()) {
    chunks_.push_back({.activations = List<index_t>(schedule.activation_slots[chunk], kFree),
                       .gradients = List<index_t>(schedule.gradient_slots[chunk], kFree)});
  }
}

std::string StageWalk::fault() {
  const List<Action>& list = schedule_.actions[stage_];
  for (index_t i = 0; i < list.size(); ++i) {
    const std::string reason = take(list[i]);
    if (!reason.empty()) {
      return text("stage ", stage_, ", action ", i, " (", to_text(list[i]), "): ", reason);
    }
  }
  for (index_t chunk = stage_; chunk < schedule_.chunks(); chunk += schedule_.stages()) {
    for (const ActionKind kind : kActionKinds) {
      if (belongs(kind, chunk, schedule_) && count(chunk, kind) != schedule_.micro_batches) {
        return text("stage ", stage_, " ends without ",
                    to_text(Action{kind, chunk, count(chunk, kind)}));
      }
    }
  }
  return {};
}

bool StageWalk::is_here(index_t chunk) const {
  return chunk >= 0 && chunk < schedule_.chunks() && schedule_.stage_of(chunk) == stage_;
}

std::string StageWalk::take(const Action& action) {
  std::string reason = misplaced(action);
  if (reason.empty()) reason = impossible(action);
  if (reason.empty()) reason = wrong_push(action);
  if (reason.empty()) ++chunk_at(action.chunk).counts[position(action.kind)];
  return reason;
}

std::string StageWalk::misplaced(const Action& action) const {
  if (!is_here(action.chunk)) return "the chunk is not on this stage";
  if (!belongs(action.kind, action.chunk, schedule_)) return "the chunk has no such action";
  const index_t next = count(action.chunk, action.kind);
  if (next == schedule_.micro_batches) return "the step has no such micro-batch";
  if (action.micro_batch == next) return {};
  return text("out of order; micro-batch ", next, " is next");
}

std::string StageWalk::impossible(const Action& action) {
  std::string reason;
  const ActionKind backward = backward_kind(schedule_, action.chunk);
  switch (action.kind) {
    case ActionKind::forward:
      reason = compute(action, ActionKind::receive_forward, ActionKind::send_forward);
      if (reason.empty()) reason = occupy_activation(action);
      break;
    case ActionKind::backward:
    case ActionKind::input_gradient:
      reason = compute(action, ActionKind::receive_backward, ActionKind::send_backward);
      if (reason.empty()) reason = find_activation(action);
      if (!reason.empty()) break;
      if (action.kind == ActionKind::backward) {
        free_activation(action);
      } else {
        reason = occupy_gradient(action);
      }
      break;
    case ActionKind::weight_gradient:
      reason = find_activation(action);
      if (reason.empty()) reason = find_gradient(action);
      if (!reason.empty()) break;
      free_activation(action);
      chunk_at(action.chunk).gradients[action.gradient_slot] = kFree;
      break;
    case ActionKind::send_forward:
      reason = send(action, ActionKind::forward);
      break;
    case ActionKind::send_backward:
      reason = send(action, backward);
      break;
    case ActionKind::receive_forward:
      reason = receive(action, ActionKind::forward);
      break;
    case ActionKind::receive_backward:
      reason = receive(action, backward);
      break;
  }
  return reason;
}

std::string StageWalk::wrong_push(const Action& action) {
  const bool completes =
      (action.kind == ActionKind::backward || action.kind == ActionKind::weight_gradient) &&
      action.micro_batch + 1 == schedule_.micro_batches;
  if (action.pushes != completes) {
    return completes ? "completes the chunk's gradients and does not push them"
                     : "pushes gradients that are not complete";
  }
  if (!completes) return {};
  chunk_at(action.chunk).pushed = true;
  for (index_t higher = action.chunk; higher < schedule_.chunks(); higher += schedule_.stages()) {
    if (!chunk_at(higher).pushed) return text("pushes before chunk ", higher);
  }
  return {};
}

std::string StageWalk::compute(const Action& action, ActionKind input, ActionKind output) const {
  if (belongs(input, action.chunk, schedule_) && count(action.chunk, input) <= action.micro_batch) {
    return "its input was not received";
  }
  const index_t sent = count(action.chunk, output);
  if (belongs(output, action.chunk, schedule_) && sent < action.micro_batch) {
    return text("overwrites the result of micro-batch ", sent, ", which was not sent");
  }
  return {};
}

std::string StageWalk::send(const Action& action, ActionKind result) const {
  if (count(action.chunk, result) <= action.micro_batch) return "not computed yet";
  return buffer(action);
}

std::string StageWalk::receive(const Action& action, ActionKind reader) const {
  if (action.micro_batch >= count(action.chunk, reader) + schedule_.link_slots) {
    return text("its buffer still holds micro-batch ", action.micro_batch - schedule_.link_slots,
                ", which was not read");
  }
  return buffer(action);
}

std::string StageWalk::buffer(const Action& action) const {
  const index_t slot = action.micro_batch % schedule_.link_slots;
  if (action.slot == slot) return {};
  return text("names buffer ", action.slot, " of the link, but the frame uses ", slot);
}

std::string StageWalk::occupy_activation(const Action& action) {
  List<index_t>& slots = chunk_at(action.chunk).activations;
  if (!is_slot(action.slot, slots)) {
    return text("no activation slot ", action.slot, "; the chunk has ", slots.size());
  }
  index_t& occupant = slots[action.slot];
  if (occupant != kFree) {
    return text("activation slot ", action.slot, " still holds micro-batch ", occupant);
  }
  peak_ = std::max(peak_, activations_ + 1);
  if (schedule_.has_backward) {
    occupant = action.micro_batch;
    ++activations_;
  }
  return {};
}

std::string StageWalk::find_activation(const Action& action) const {
  const List<index_t>& slots = chunk_at(action.chunk).activations;
  if (is_slot(action.slot, slots) && slots[action.slot] == action.micro_batch) return {};
  return text("its activation is not in slot ", action.slot);
}

void StageWalk::free_activation(const Action& action) {
  chunk_at(action.chunk).activations[action.slot] = kFree;
  --activations_;
}

std::string StageWalk::occupy_gradient(const Action& action) {
  List<index_t>& slots = chunk_at(action.chunk).gradients;
  if (!is_slot(action.gradient_slot, slots)) {
    return text("no gradient slot ", action.gradient_slot, "; the chunk has ", slots.size());
  }
  index_t& occupant = slots[action.gradient_slot];
  if (occupant != kFree) {
    return text("gradient slot ", action.gradient_slot, " still holds micro-batch ", occupant);
  }
  occupant = action.micro_batch;
  return {};
}

std::string StageWalk::find_gradient(const Action& action) const {
  const List<index_t>& slots = chunk_at(action.chunk).gradients;
  if (is_slot(action.gradient_slot, slots) && slots[action.gradient_slot] == action.micro_batch) {
    return {};
  }
  return text("its gradient is not in slot ", action.gradient_slot);
}

}  // namespace weir::worker
