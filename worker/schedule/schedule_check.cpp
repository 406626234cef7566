#include "worker/schedule/schedule_check.hpp"

#include <algorithm>
#include <array>

#include "common/base/error.hpp"
#include "common/base/text.hpp"
#include "worker/schedule/stage_walk.hpp"

namespace weir::worker {
namespace {

// Part 2 of check(): needs lists that have passed part 1.
class Simulation {
 public:
  Simulation(const Schedule& schedule, const ScheduleCosts& costs)
      : schedule_(schedule),
        costs_(costs),
        stages_(schedule.stages()),
        ends_s_(schedule.chunks()) {}

  // Runs until every stage has finished or waits. True if all have finished.
  bool run() {
    // Stages that may be able to go on: those whose neighbours have done anything.
    List<index_t> movable;
    List<bool> listed(schedule_.stages(), true);
    for (index_t stage = schedule_.stages(); stage-- > 0;) movable.push_back(stage);
    while (!movable.empty()) {
      const index_t stage = movable.back();
      movable.pop_back();
      listed[stage] = false;
      if (!advance(stage)) continue;
      for (const index_t step : {schedule_.stages() - 1, index_t{1}}) {
        const index_t neighbour = (stage + step) % schedule_.stages();
        if (listed[neighbour]) continue;
        listed[neighbour] = true;
        movable.push_back(neighbour);
      }
    }
    for (index_t stage = 0; stage < schedule_.stages(); ++stage) {
      if (stages_[stage].next < schedule_.actions[stage].size()) return false;
    }
    return true;
  }

  // Says what each stage waits for, after run() has returned false.
  std::string waiting() const {
    std::string out;
    for (index_t stage = 0; stage < schedule_.stages(); ++stage) {
      const List<Action>& list = schedule_.actions[stage];
      const index_t next = stages_[stage].next;
      out += text(stage == 0 ? "" : "; ", "stage ", stage);
      if (next == list.size()) {
        out += " has finished";
        continue;
      }
      const Action& action = list[next];
      const index_t peer = schedule_.stage_of(peer_of(action));
      out += text(" waits at action ", next, " (", to_text(action), ") for stage ", peer);
      if (is_send(action.kind)) {
        out += text(" to read micro-batch ", action.micro_batch - 2 * schedule_.link_slots);
      } else {
        out += " to send it";
      }
    }
    return out;
  }

  // Times and messages.
  ScheduleReport report() && {
    ScheduleReport report;
    double busy_s = 0;
    for (Stage& stage : stages_) {
      report.makespan_s = std::max(report.makespan_s, stage.clock_s);
      for (const ComputeSpan& span : stage.spans) busy_s += span.end_s - span.begin_s;
      report.spans.push_back(std::move(stage.spans));
      report.messages += stage.messages;
    }
    const double all_s = report.makespan_s * static_cast<double>(stages_.size());
    report.idle_share = all_s > 0 ? 1 - busy_s / all_s : 0;
    return report;
  }

 private:
  struct Stage {
    index_t next = 0;  // index of the next action
    double clock_s = 0;
    index_t messages = 0;  // sent
    List<ComputeSpan> spans;
  };

  static bool is_send(ActionKind kind) {
    return kind == ActionKind::send_forward || kind == ActionKind::send_backward;
  }

  // The chunk at the other end of a message's link.
  static index_t peer_of(const Action& message) {
    const bool is_after =
        message.kind == ActionKind::send_forward || message.kind == ActionKind::receive_backward;
    return is_after ? message.chunk + 1 : message.chunk - 1;
  }

  const List<double>& ends_s(index_t chunk, ActionKind kind) const {
    return ends_s_[chunk][position(kind)];
  }

  // When frame `i` arrives, if that is known already.
  std::optional<double> arrival_s(index_t sender, index_t receiver, index_t i) const {
    const bool forward = sender < receiver;
    const auto& sent_s =
        ends_s(sender, forward ? ActionKind::send_forward : ActionKind::send_backward);
    const auto& read_s =
        ends_s(receiver, forward ? ActionKind::forward : backward_kind(schedule_, receiver));
    if (i >= sent_s.size()) return std::nullopt;
    double start_s = sent_s[i];
    if (i >= schedule_.link_slots) {
      const index_t before = i - schedule_.link_slots;  // the frame that had the receive buffer
      if (before >= read_s.size()) return std::nullopt;
      start_s = std::max(start_s, read_s[before]);
    }
    return start_s + costs_.link_s;
  }

  // The time from which the rule lets the stage do the action, if that is known already.
  std::optional<double> ready_s(const Action& action) const {
    switch (action.kind) {
      case ActionKind::forward:
      case ActionKind::backward:
      case ActionKind::input_gradient:
      case ActionKind::weight_gradient:
        return 0;
      case ActionKind::send_forward:
      case ActionKind::send_backward:
        if (action.micro_batch < schedule_.link_slots) return 0;
        return arrival_s(action.chunk, peer_of(action), action.micro_batch - schedule_.link_slots);
      case ActionKind::receive_forward:
      case ActionKind::receive_backward:
        return arrival_s(peer_of(action), action.chunk, action.micro_batch);
    }
    WEIR_UNREACHABLE();
  }

  // Does everything that one stage can do now. True if there was anything to do.
  bool advance(index_t stage_index) {
    const List<Action>& list = schedule_.actions[stage_index];
    Stage& stage = stages_[stage_index];
    const index_t begin = stage.next;
    for (; stage.next < list.size(); ++stage.next) {
      const Action& action = list[stage.next];
      const std::optional<double> ready = ready_s(action);
      if (!ready) break;
      const double begin_s = std::max(stage.clock_s, *ready);
      stage.clock_s = begin_s + costs_.chunks[action.chunk].seconds_of(action.kind);
      if (!is_message(action.kind)) stage.spans.push_back({action, begin_s, stage.clock_s});
      if (is_send(action.kind)) ++stage.messages;
      ends_s_[action.chunk][position(action.kind)].push_back(stage.clock_s);
    }
    return stage.next != begin;
  }

  const Schedule& schedule_;
  const ScheduleCosts& costs_;
  List<Stage> stages_;
  List<std::array<List<double>, kActionKinds.size()>> ends_s_;  // [chunk][kind][micro-batch]
};

index_t slot_bytes(const Schedule& schedule, const ScheduleCosts& costs, index_t stage) {
  index_t bytes = 0;
  for (index_t chunk = stage; chunk < schedule.chunks(); chunk += schedule.stages()) {
    bytes += schedule.activation_slots[chunk] * costs.chunks[chunk].activation_bytes +
             schedule.gradient_slots[chunk] * costs.chunks[chunk].gradient_bytes;
  }
  return bytes;
}

}  // namespace

double ChunkCost::seconds_of(ActionKind kind) const {
  switch (kind) {
    case ActionKind::forward:
      return forward_s;
    case ActionKind::backward:
      return input_gradient_s + weight_gradient_s;
    case ActionKind::input_gradient:
      return input_gradient_s;
    case ActionKind::weight_gradient:
      return weight_gradient_s;
    case ActionKind::send_forward:
    case ActionKind::receive_forward:
    case ActionKind::send_backward:
    case ActionKind::receive_backward:
      return 0;
  }
  WEIR_UNREACHABLE();
}

ScheduleVerdict check(const Schedule& schedule, const ScheduleCosts& costs) {
  WEIR_ASSERT(costs.chunks.size() == schedule.chunks());
  WEIR_ASSERT(schedule.gradient_slots.size() == schedule.chunks());
  WEIR_ASSERT(schedule.stages() >= 1 && schedule.chunks() % schedule.stages() == 0);
  WEIR_ASSERT(schedule.link_slots >= 1 && schedule.micro_batches >= 1);
  List<index_t> peak_activations;
  List<index_t> bytes;
  for (index_t stage = 0; stage < schedule.stages(); ++stage) {
    StageWalk walk(schedule, stage);
    std::string fault = walk.fault();
    if (!fault.empty()) return {std::nullopt, std::move(fault)};
    peak_activations.push_back(walk.peak_activations());
    bytes.push_back(slot_bytes(schedule, costs, stage));
    if (bytes.back() > costs.slot_bytes_max) {
      return {std::nullopt, text("stage ", stage, ": its slots take ", bytes.back(),
                                 " bytes, more than the ", costs.slot_bytes_max, " allowed")};
    }
  }
  Simulation simulation(schedule, costs);
  if (!simulation.run()) {
    return {std::nullopt, text("the stages wait for each other: ", simulation.waiting())};
  }
  ScheduleReport report = std::move(simulation).report();
  report.peak_activations = std::move(peak_activations);
  report.slot_bytes = std::move(bytes);
  return {std::move(report), {}};
}

}  // namespace weir::worker
