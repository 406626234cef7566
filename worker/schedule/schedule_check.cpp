#include "worker/schedule/schedule_check.hpp"

#include <algorithm>
#include <array>

#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir::worker {
namespace {

constexpr std::array kAllKinds = {ActionKind::forward,       ActionKind::backward,
                                  ActionKind::send_forward,  ActionKind::receive_forward,
                                  ActionKind::send_backward, ActionKind::receive_backward};

std::size_t at(ActionKind kind) { return static_cast<std::size_t>(kind); }

// A stage has messages with the neighbours that exist: the first has none before it, the last none
// after it.
bool belongs(ActionKind kind, index_t stage, const Schedule& schedule) {
  const bool first = stage == 0;
  const bool last = stage == schedule.stages() - 1;
  switch (kind) {
    case ActionKind::forward:
      return true;
    case ActionKind::backward:
      return schedule.has_backward;
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

// Part 1 of check(): walks the list of one stage.
class StageWalk {
 public:
  StageWalk(const Schedule& schedule, index_t stage)
      : schedule_(schedule),
        stage_(stage),
        micro_batch_in_(schedule.activation_slots[stage], kFree) {}

  // Errors of the list; empty if it is right.
  std::string fault() {
    const List<Action>& list = schedule_.actions[stage_];
    for (index_t i = 0; i < list.size(); ++i) {
      const std::string reason = take(list[i]);
      if (!reason.empty()) {
        return text("stage ", stage_, ", action ", i, " (", to_text(list[i]), "): ", reason);
      }
    }
    for (const ActionKind kind : kAllKinds) {
      if (belongs(kind, stage_, schedule_) && count(kind) != schedule_.micro_batches) {
        return text("stage ", stage_, " ends without ",
                    to_text(Action{kind, stage_, count(kind), 0}));
      }
    }
    return {};
  }

  index_t peak_activations() const { return peak_; }

 private:
  static constexpr index_t kFree = -1;

  index_t count(ActionKind kind) const { return counts_[at(kind)]; }

  // Carries out the action, which is the next of the list. Returns what is wrong with it; empty if
  // nothing is.
  std::string take(const Action& action) {
    std::string reason = misplaced(action);
    if (reason.empty()) reason = impossible(action);
    ++counts_[at(action.kind)];
    return reason;
  }

  std::string misplaced(const Action& action) const {
    if (action.chunk != stage_) return text("this stage holds chunk ", stage_, " only");
    if (!belongs(action.kind, stage_, schedule_)) return "this stage has no such action";
    if (count(action.kind) == schedule_.micro_batches) return "the step has no such micro-batch";
    if (action.micro_batch == count(action.kind)) return {};
    return text("out of order; micro-batch ", count(action.kind), " is next");
  }

  std::string impossible(const Action& action) {
    std::string reason;
    switch (action.kind) {
      case ActionKind::forward:
        reason = compute(action, ActionKind::receive_forward, ActionKind::send_forward);
        if (reason.empty()) reason = occupy(action);
        break;
      case ActionKind::backward:
        reason = compute(action, ActionKind::receive_backward, ActionKind::send_backward);
        if (reason.empty()) reason = free(action);
        break;
      case ActionKind::send_forward:
        reason = message(action);
        if (count(ActionKind::forward) <= action.micro_batch) reason = "not computed yet";
        break;
      case ActionKind::send_backward:
        reason = message(action);
        if (count(ActionKind::backward) <= action.micro_batch) reason = "not computed yet";
        break;
      case ActionKind::receive_forward:
        reason = receive(action, count(ActionKind::forward));
        break;
      case ActionKind::receive_backward:
        reason = receive(action, count(ActionKind::backward));
        break;
    }
    return reason;
  }

  std::string compute(const Action& action, ActionKind input, ActionKind output) const {
    if (belongs(input, stage_, schedule_) && count(input) <= action.micro_batch) {
      return "its input was not received";
    }
    if (belongs(output, stage_, schedule_) && count(output) < action.micro_batch) {
      return text("overwrites the result of micro-batch ", count(output), ", which was not sent");
    }
    return {};
  }

  std::string occupy(const Action& action) {
    if (action.slot < 0 || action.slot >= micro_batch_in_.size()) {
      return text("no activation slot ", action.slot, "; the stage has ", micro_batch_in_.size());
    }
    index_t& occupant = micro_batch_in_[action.slot];
    if (occupant != kFree) {
      return text("activation slot ", action.slot, " still holds micro-batch ", occupant);
    }
    peak_ = std::max(peak_, ++activations_);
    if (schedule_.has_backward) {
      occupant = action.micro_batch;
    } else {
      --activations_;
    }
    return {};
  }

  std::string free(const Action& action) {
    if (action.slot < 0 || action.slot >= micro_batch_in_.size() ||
        micro_batch_in_[action.slot] != action.micro_batch) {
      return text("its activation is not in slot ", action.slot);
    }
    micro_batch_in_[action.slot] = kFree;
    --activations_;
    return {};
  }

  std::string message(const Action& action) const {
    const index_t slot = action.micro_batch % schedule_.link_slots;
    if (action.slot == slot) return {};
    return text("names buffer ", action.slot, " of the link, but the frame uses ", slot);
  }

  std::string receive(const Action& action, index_t read) const {
    if (action.micro_batch >= read + schedule_.link_slots) {
      return text("its buffer still holds micro-batch ", action.micro_batch - schedule_.link_slots,
                  ", which was not read");
    }
    return message(action);
  }

  const Schedule& schedule_;
  const index_t stage_;
  std::array<index_t, kAllKinds.size()> counts_{};  // the next micro-batch of each kind
  List<index_t> micro_batch_in_;                    // one an activation slot
  index_t activations_ = 0;
  index_t peak_ = 0;
};

// Part 2 of check(): needs lists that have passed part 1.
class Simulation {
 public:
  Simulation(const Schedule& schedule, const ScheduleCosts& costs)
      : schedule_(schedule), costs_(costs), stages_(schedule.actions.size()) {}

  // Runs until every stage has finished or waits. True if all have finished.
  bool run() {
    bool moved = true;
    while (moved) {
      moved = false;
      for (index_t stage = 0; stage < schedule_.stages(); ++stage) moved |= advance(stage);
    }
    return std::ranges::all_of(stages_, [this](const Stage& stage) {
      return stage.next == schedule_.actions[&stage - stages_.data()].size();
    });
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
      out += text(" waits at action ", next, " (", to_text(action), ") for stage ");
      const index_t peer = peer_of(stage, action.kind);
      if (is_send(action.kind)) {
        out += text(peer, " to read micro-batch ", action.micro_batch - 2 * schedule_.link_slots);
      } else {
        out += text(peer, " to send it");
      }
    }
    return out;
  }

  ScheduleReport report() && {
    ScheduleReport report;
    double busy_s = 0;
    for (Stage& stage : stages_) {
      report.makespan_s = std::max(report.makespan_s, stage.clock_s);
      for (const ComputeSpan& span : stage.spans) busy_s += span.end_s - span.begin_s;
      report.spans.push_back(std::move(stage.spans));
    }
    const double all_s = report.makespan_s * static_cast<double>(stages_.size());
    report.idle_share = all_s > 0 ? 1 - busy_s / all_s : 0;
    return report;
  }

 private:
  struct Stage {
    index_t next = 0;  // index of the next action
    double clock_s = 0;
    std::array<List<double>, kAllKinds.size()> end_s;  // [kind][micro-batch]
    List<ComputeSpan> spans;
  };

  static bool is_send(ActionKind kind) {
    return kind == ActionKind::send_forward || kind == ActionKind::send_backward;
  }

  // The other end of a message's link.
  static index_t peer_of(index_t stage, ActionKind kind) {
    const bool to_next = kind == ActionKind::send_forward || kind == ActionKind::receive_backward;
    return to_next ? stage + 1 : stage - 1;
  }

  // When frame `i` arrives, if that is known already.
  std::optional<double> arrival_s(index_t sender, index_t receiver, index_t i) const {
    const bool forward = sender < receiver;
    const auto& sent_s =
        stages_[sender].end_s[at(forward ? ActionKind::send_forward : ActionKind::send_backward)];
    const auto& read_s =
        stages_[receiver].end_s[at(forward ? ActionKind::forward : ActionKind::backward)];
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
  std::optional<double> ready_s(index_t stage, const Action& action) const {
    switch (action.kind) {
      case ActionKind::forward:
      case ActionKind::backward:
        return 0;
      case ActionKind::send_forward:
      case ActionKind::send_backward:
        if (action.micro_batch < schedule_.link_slots) return 0;
        return arrival_s(stage, peer_of(stage, action.kind),
                         action.micro_batch - schedule_.link_slots);
      case ActionKind::receive_forward:
      case ActionKind::receive_backward:
        return arrival_s(peer_of(stage, action.kind), stage, action.micro_batch);
    }
    WEIR_UNREACHABLE();
  }

  // Does everything that one stage can do now. True if there was anything to do.
  bool advance(index_t stage_index) {
    const List<Action>& list = schedule_.actions[stage_index];
    const StageCost& cost = costs_.stages[stage_index];
    Stage& stage = stages_[stage_index];
    const index_t begin = stage.next;
    for (; stage.next < list.size(); ++stage.next) {
      const Action& action = list[stage.next];
      const std::optional<double> ready = ready_s(stage_index, action);
      if (!ready) break;
      const double begin_s = std::max(stage.clock_s, *ready);
      stage.clock_s = begin_s;
      if (action.kind == ActionKind::forward || action.kind == ActionKind::backward) {
        stage.clock_s += action.kind == ActionKind::forward ? cost.forward_s : cost.backward_s;
        stage.spans.push_back({action, begin_s, stage.clock_s});
      }
      stage.end_s[at(action.kind)].push_back(stage.clock_s);
    }
    return stage.next != begin;
  }

  const Schedule& schedule_;
  const ScheduleCosts& costs_;
  List<Stage> stages_;
};

}  // namespace

ScheduleVerdict check(const Schedule& schedule, const ScheduleCosts& costs) {
  WEIR_ASSERT(costs.stages.size() == schedule.actions.size());
  WEIR_ASSERT(schedule.activation_slots.size() == schedule.actions.size());
  WEIR_ASSERT(schedule.link_slots >= 1 && schedule.micro_batches >= 1);
  List<index_t> peak_activations;
  for (index_t stage = 0; stage < schedule.stages(); ++stage) {
    StageWalk walk(schedule, stage);
    std::string fault = walk.fault();
    if (!fault.empty()) return {std::nullopt, std::move(fault)};
    peak_activations.push_back(walk.peak_activations());
  }
  Simulation simulation(schedule, costs);
  if (!simulation.run()) {
    return {std::nullopt, text("the stages wait for each other: ", simulation.waiting())};
  }
  ScheduleReport report = std::move(simulation).report();
  report.peak_activations = std::move(peak_activations);
  return {std::move(report), {}};
}

}  // namespace weir::worker
