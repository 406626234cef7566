#include "worker/schedule/schedule.hpp"

#include <algorithm>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir::worker {
namespace {

using Actions = List<Action>;

// A schedule is made in passes over the lists of the stages: what they compute; messages; slots;
// pushes.

// Pass 1: what a stage computes, in order.

// The actions of one kind on a stage: groups of as many micro-batches as there are stages, in each
// group chunk after chunk.
Actions in_groups(ActionKind kind, const Pipeline& pipeline, index_t stage, index_t micro_batches) {
  const index_t chunks = pipeline.chunks_a_stage;
  Actions list;
  for (index_t first = 0; first < micro_batches; first += pipeline.stages) {
    const index_t end = std::min(first + pipeline.stages, micro_batches);
    for (index_t at = 0; at < chunks; ++at) {
      const index_t round = kind == ActionKind::forward ? at : chunks - 1 - at;
      for (index_t i = first; i < end; ++i) {
        list.push_back({kind, round * pipeline.stages + stage, i});
      }
    }
  }
  return list;
}

// Forwards before the first backward, less the one that precedes each backward.
index_t forwards_ahead(ScheduleKind kind, const Pipeline& pipeline, index_t stage,
                       index_t micro_batches) {
  const index_t stages_after = pipeline.stages - 1 - stage;
  switch (kind) {
    case ScheduleKind::gpipe:
      return micro_batches;
    case ScheduleKind::one_forward_one_backward:
    case ScheduleKind::zero_bubble_h1:
      return stages_after;
    case ScheduleKind::eager_one_forward_one_backward:
      return 2 * stages_after;
    case ScheduleKind::interleaved:
      return 2 * stages_after + (pipeline.chunks_a_stage - 1) * pipeline.stages;
  }
  WEIR_UNREACHABLE();
}

Actions in_turn(const Actions& forwards, index_t ahead, const Actions& backwards) {
  index_t next = std::min(ahead, forwards.size());
  Actions list(forwards.begin(), forwards.begin() + next);
  for (const Action& backward : backwards) {
    if (next < forwards.size()) list.push_back(forwards[next++]);
    list.push_back(backward);
  }
  return list;
}

// Halves the backwards; each weight gradient comes `delay` micro-batches after its input gradient.
Actions with_late_weight_gradients(const Actions& whole, index_t delay) {
  Actions list;
  index_t input_gradients = 0;
  index_t weight_gradients = 0;
  const auto add_weight_gradient = [&](index_t chunk) {
    list.push_back({ActionKind::weight_gradient, chunk, weight_gradients++});
  };
  for (const Action& action : whole) {
    list.push_back(action);
    if (action.kind != ActionKind::backward) continue;
    list.back().kind = ActionKind::input_gradient;
    if (++input_gradients > weight_gradients + delay) add_weight_gradient(action.chunk);
  }
  while (weight_gradients < input_gradients) add_weight_gradient(whole.back().chunk);
  return list;
}

Actions compute_list(ScheduleKind kind, const Pipeline& pipeline, index_t stage,
                     index_t micro_batches) {
  // Interleaving goes by whole groups. Without the micro-batches that do not exist the order
  // remains one that no stage waits for ever in.
  const index_t stages = pipeline.stages;
  const index_t groups = (micro_batches + stages - 1) / stages;
  const index_t whole = pipeline.chunks_a_stage > 1 ? groups * stages : micro_batches;
  Actions list = in_turn(in_groups(ActionKind::forward, pipeline, stage, whole),
                         forwards_ahead(kind, pipeline, stage, micro_batches),
                         in_groups(ActionKind::backward, pipeline, stage, whole));
  erase_if(list, [&](const Action& action) { return action.micro_batch >= micro_batches; });
  // No stage waits for the input gradients of stage 0, which need not be apart.
  const bool halves = kind == ScheduleKind::zero_bubble_h1 && stage > 0;
  return halves ? with_late_weight_gradients(list, stage) : list;
}

// Pass 2: each result is sent as soon as it exists, each input awaited as late as possible.
Actions with_messages(const Actions& compute, index_t chunks) {
  Actions list;
  for (const Action& action : compute) {
    const bool first = action.chunk == 0;
    const bool last = action.chunk == chunks - 1;
    const bool forward = action.kind == ActionKind::forward;
    const bool backward =
        action.kind == ActionKind::backward || action.kind == ActionKind::input_gradient;
    const auto add = [&](ActionKind kind) {
      list.push_back({kind, action.chunk, action.micro_batch});
    };
    if (forward && !first) add(ActionKind::receive_forward);
    if (backward && !last) add(ActionKind::receive_backward);
    list.push_back(action);
    if (forward && !last) add(ActionKind::send_forward);
    if (backward && !first) add(ActionKind::send_backward);
  }
  return list;
}

// Slots that micro-batches take and leave.
class SlotRow {
 public:
  index_t count() const { return micro_batch_in_.size(); }
  // The lowest free one.
  index_t take(index_t micro_batch) {
    auto at = std::ranges::find(micro_batch_in_, kFree);
    if (at == micro_batch_in_.end()) at = micro_batch_in_.insert(at, kFree);
    *at = micro_batch;
    return at - micro_batch_in_.begin();
  }
  index_t slot_of(index_t micro_batch) const {
    const auto at = std::ranges::find(micro_batch_in_, micro_batch);
    WEIR_ASSERT(at != micro_batch_in_.end());
    return at - micro_batch_in_.begin();
  }
  index_t leave(index_t micro_batch) {
    const index_t slot = slot_of(micro_batch);
    micro_batch_in_[slot] = kFree;
    return slot;
  }

 private:
  static constexpr index_t kFree = -1;
  List<index_t> micro_batch_in_;
};

// Pass 3: each forward gets the lowest free activation slot of its chunk, which lasts until its
// last gradient; likewise gradient slots. Messages take the link's slots in turn.
void assign_slots(Schedule& schedule, Actions& list) {
  List<SlotRow> activations(schedule.chunks());
  List<SlotRow> gradients(schedule.chunks());
  for (Action& action : list) {
    const index_t chunk = action.chunk;
    const index_t i = action.micro_batch;
    switch (action.kind) {
      case ActionKind::forward:
        action.slot = activations[chunk].take(i);
        if (!schedule.has_backward) activations[chunk].leave(i);
        break;
      case ActionKind::backward:
        action.slot = activations[chunk].leave(i);
        break;
      case ActionKind::input_gradient:
        action.slot = activations[chunk].slot_of(i);
        action.gradient_slot = gradients[chunk].take(i);
        break;
      case ActionKind::weight_gradient:
        action.slot = activations[chunk].leave(i);
        action.gradient_slot = gradients[chunk].leave(i);
        break;
      case ActionKind::send_forward:
      case ActionKind::receive_forward:
      case ActionKind::send_backward:
      case ActionKind::receive_backward:
        action.slot = i % schedule.link_slots;
        break;
    }
  }
  for (index_t chunk = 0; chunk < schedule.chunks(); ++chunk) {
    schedule.activation_slots[chunk] += activations[chunk].count();
    schedule.gradient_slots[chunk] += gradients[chunk].count();
  }
}

// Pass 4: a chunk pushes with the last gradients of its weights.
void mark_pushes(Actions& list, index_t micro_batches) {
  for (Action& action : list) {
    const bool has_weights =
        action.kind == ActionKind::backward || action.kind == ActionKind::weight_gradient;
    action.pushes = has_weights && action.micro_batch + 1 == micro_batches;
  }
}

Schedule lower(const List<Actions>& compute, const Pipeline& pipeline, index_t micro_batches,
               bool has_backward) {
  const index_t chunks = pipeline.chunks();
  Schedule schedule{micro_batches,
                    pipeline.link_slots,
                    has_backward,
                    List<index_t>(chunks, 0),
                    List<index_t>(chunks, 0),
                    {}};
  for (const Actions& actions : compute) {
    Actions list = with_messages(actions, chunks);
    assign_slots(schedule, list);
    mark_pushes(list, micro_batches);
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
    case ActionKind::input_gradient:
      return "I";
    case ActionKind::weight_gradient:
      return "W";
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

void check_pipeline(const Pipeline& pipeline, index_t micro_batches) {
  WEIR_ASSERT(pipeline.stages >= 1 && pipeline.chunks_a_stage >= 1 && pipeline.link_slots >= 1);
  WEIR_ASSERT(pipeline.stages > 1 || pipeline.chunks_a_stage == 1);
  WEIR_ASSERT(micro_batches >= 1);
}

}  // namespace

Schedule make_schedule(ScheduleKind kind, const Pipeline& pipeline, index_t micro_batches) {
  check_pipeline(pipeline, micro_batches);
  WEIR_ASSERT(pipeline.chunks_a_stage == 1 || kind == ScheduleKind::interleaved);
  List<Actions> compute;
  for (index_t stage = 0; stage < pipeline.stages; ++stage) {
    compute.push_back(compute_list(kind, pipeline, stage, micro_batches));
  }
  return lower(compute, pipeline, micro_batches, true);
}

Schedule make_forward_only(const Pipeline& pipeline, index_t micro_batches) {
  check_pipeline(pipeline, micro_batches);
  List<Actions> compute;
  for (index_t stage = 0; stage < pipeline.stages; ++stage) {
    compute.push_back(in_groups(ActionKind::forward, pipeline, stage, micro_batches));
  }
  return lower(compute, pipeline, micro_batches, false);
}

const char* name_of(ActionKind kind) {
  switch (kind) {
    case ActionKind::forward:
      return "forward";
    case ActionKind::backward:
      return "backward";
    case ActionKind::input_gradient:
      return "input_gradient";
    case ActionKind::weight_gradient:
      return "weight_gradient";
    case ActionKind::send_forward:
      return "send_forward";
    case ActionKind::receive_forward:
      return "receive_forward";
    case ActionKind::send_backward:
      return "send_backward";
    case ActionKind::receive_backward:
      return "receive_backward";
  }
  WEIR_UNREACHABLE();
}

std::string to_text(const Action& action) {
  return text(action.chunk, letters(action.kind), action.micro_batch, action.pushes ? "P" : "");
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
