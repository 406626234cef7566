#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "worker/schedule/schedule.hpp"
#include "worker/schedule/schedule_check.hpp"

/// Plays a schedule out as a simulation of events over slots, buffers and frames in flight, written
/// from the contract in schedule.hpp alone. Shares no code with schedule_check.cpp: the judge of
/// it.
namespace weir::worker::judge {

/// What became of a schedule that was played out.
struct Played {
  std::string broken;  ///< what went wrong first; empty: the step was completed as it must be
  bool stuck = false;  ///< broken because nobody could go on
  double makespan_s = 0;
  List<index_t> peak_activations;
};

struct Broken {
  std::string what;
};

inline void must(bool holds, const char* what) {
  if (!holds) throw Broken{what};
}

// One direction between two neighbours. `number` is the count of earlier frames of the direction.
struct Frame {
  index_t number;
  index_t micro_batch;
};

struct ReceiveBuffer {
  enum { posted, arriving, arrived, fetched } state = posted;
  Frame frame{};
};

struct SendBuffer {
  enum { empty, waiting, moving } state = empty;
  Frame frame{};
};

struct Link {
  List<SendBuffer> send;
  List<ReceiveBuffer> receive;
  index_t sent = 0;
  index_t received = 0;
};

struct Stage {
  index_t next = 0;
  bool busy = false;
  double finished_s = 0;
  List<std::optional<index_t>> activations;  // micro-batch by slot
  index_t peak = 0;
  std::optional<index_t> unsent_output, unsent_gradient;
  List<index_t> forwards, backwards;  // micro-batches in the order they ran
};

struct Event {
  double at_s;
  index_t order;
  std::function<void()> happen;
  bool operator>(const Event& other) const {
    return at_s != other.at_s ? at_s > other.at_s : order > other.order;
  }
};

class World {
 public:
  World(const Schedule& schedule, const ScheduleCosts& costs)
      : schedule_(schedule),
        costs_(costs),
        stages_(schedule.actions.size()),
        to_next_(schedule.actions.size()),
        to_previous_(schedule.actions.size()) {
    for (index_t s = 0; s < stages_.size(); ++s) {
      stages_[s].activations.resize(schedule.activation_slots[s]);
      for (Link* link : {&to_next_[s], &to_previous_[s]}) {
        link->send.resize(schedule.link_slots);
        link->receive.resize(schedule.link_slots);
      }
    }
  }

  Played play() {
    Played played;
    try {
      settle();
      while (!events_.empty()) {
        const Event event = events_.top();
        events_.pop();
        now_s_ = event.at_s;
        event.happen();
        settle();
      }
      for (index_t s = 0; s < stages_.size(); ++s) {
        if (stages_[s].next < schedule_.actions[s].size()) {
          played.stuck = true;
          must(false, "stuck");
        }
      }
      look_at_the_end();
    } catch (const Broken& broken) {
      played.broken = broken.what;
      return played;
    }
    for (const Stage& stage : stages_) {
      played.makespan_s = std::max(played.makespan_s, stage.finished_s);
      played.peak_activations.push_back(stage.peak);
    }
    return played;
  }

 private:
  // All that can happen now without time going by.
  void settle() {
    for (bool changed = true; changed;) {
      changed = false;
      for (index_t s = 0; s < stages_.size(); ++s) {
        while (!stages_[s].busy && stages_[s].next < schedule_.actions[s].size() &&
               attempt(s, schedule_.actions[s][stages_[s].next])) {
          ++stages_[s].next;
          stages_[s].finished_s = now_s_;
          changed = true;
        }
        changed |= start_transfers(to_next_[s]);
        changed |= start_transfers(to_previous_[s]);
      }
    }
  }

  void after(double delay_s, std::function<void()> happen) {
    events_.push({now_s_ + delay_s, events_made_++, std::move(happen)});
  }

  bool start_transfers(Link& link) {
    bool changed = false;
    for (index_t b = 0; b < link.send.size(); ++b) {
      SendBuffer& from = link.send[b];
      ReceiveBuffer& into = link.receive[b];
      if (from.state != SendBuffer::waiting || into.state != ReceiveBuffer::posted) continue;
      from.state = SendBuffer::moving;
      into.state = ReceiveBuffer::arriving;
      after(costs_.link_s, [&from, &into] {
        into.frame = from.frame;
        into.state = ReceiveBuffer::arrived;
        from.state = SendBuffer::empty;
      });
      changed = true;
    }
    return changed;
  }

  // False: the stage has to wait.
  bool attempt(index_t s, const Action& action) {
    must(action.chunk == s, "a chunk of another stage");
    Stage& stage = stages_[s];
    const bool first = s == 0, last = s + 1 == stages_.size();
    switch (action.kind) {
      case ActionKind::forward:
        return forward(stage, action, costs_.stages[s].forward_s,
                       first ? nullptr : &to_next_[s - 1], !last);
      case ActionKind::backward:
        return backward(stage, action, costs_.stages[s].backward_s,
                        last ? nullptr : &to_previous_[s + 1], !first);
      case ActionKind::send_forward:
        must(!last, "nobody to send to");
        return send(to_next_[s], action, stage.unsent_output);
      case ActionKind::send_backward:
        must(!first, "nobody to send to");
        return send(to_previous_[s], action, stage.unsent_gradient);
      case ActionKind::receive_forward:
        must(!first, "nobody to receive from");
        return receive(to_next_[s - 1], action);
      case ActionKind::receive_backward:
        must(!last, "nobody to receive from");
        return receive(to_previous_[s + 1], action);
    }
    return false;
  }

  ReceiveBuffer* fetched_frame(Link* link, index_t micro_batch) {
    if (link == nullptr) return nullptr;
    for (ReceiveBuffer& buffer : link->receive) {
      if (buffer.state == ReceiveBuffer::fetched && buffer.frame.micro_batch == micro_batch) {
        return &buffer;
      }
    }
    throw Broken{"no input"};
  }

  void compute(Stage& stage, double cost_s, std::function<void()> end) {
    stage.busy = true;
    after(cost_s, [this, &stage, end = std::move(end)] {
      stage.busy = false;
      stage.finished_s = now_s_;
      end();
    });
  }

  bool forward(Stage& stage, const Action& action, double cost_s, Link* input, bool sends) {
    ReceiveBuffer* frame = fetched_frame(input, action.micro_batch);
    must(!stage.unsent_output, "an output is lost");
    must(action.slot >= 0 && action.slot < std::ssize(stage.activations), "no such slot");
    auto& slot = stage.activations[action.slot];
    must(!slot, "an activation is lost");
    slot = action.micro_batch;
    stage.peak = std::max<index_t>(
        stage.peak, std::ranges::count_if(stage.activations,
                                          [](const auto& held) { return held.has_value(); }));
    stage.forwards.push_back(action.micro_batch);
    compute(stage, cost_s, [this, &stage, &slot, frame, sends, i = action.micro_batch] {
      if (frame) frame->state = ReceiveBuffer::posted;
      if (sends) stage.unsent_output = i;
      if (!schedule_.has_backward) slot.reset();
    });
    return true;
  }

  bool backward(Stage& stage, const Action& action, double cost_s, Link* input, bool sends) {
    must(schedule_.has_backward, "a backward in evaluation");
    ReceiveBuffer* frame = fetched_frame(input, action.micro_batch);
    must(!stage.unsent_gradient, "a gradient is lost");
    must(action.slot >= 0 && action.slot < std::ssize(stage.activations), "no such slot");
    auto& slot = stage.activations[action.slot];
    must(slot == action.micro_batch, "not the activation of this micro-batch");
    stage.backwards.push_back(action.micro_batch);
    compute(stage, cost_s, [&stage, &slot, frame, sends, i = action.micro_batch] {
      if (frame) frame->state = ReceiveBuffer::posted;
      if (sends) stage.unsent_gradient = i;
      slot.reset();
    });
    return true;
  }

  bool send(Link& link, const Action& action, std::optional<index_t>& result) {
    must(result == action.micro_batch, "no such result to send");
    must(link.sent == action.micro_batch, "not the frame's turn");
    const index_t b = link.sent % schedule_.link_slots;
    must(action.slot == b, "another send buffer");
    SendBuffer& buffer = link.send[b];
    if (buffer.state != SendBuffer::empty) return false;
    buffer = {SendBuffer::waiting, {link.sent++, action.micro_batch}};
    result.reset();
    return true;
  }

  bool receive(Link& link, const Action& action) {
    const index_t b = link.received % schedule_.link_slots;
    must(action.slot == b, "another receive buffer");
    ReceiveBuffer& buffer = link.receive[b];
    if (buffer.state != ReceiveBuffer::arrived) return false;
    must(buffer.frame.number == link.received, "frames out of turn");
    must(buffer.frame.micro_batch == action.micro_batch, "not the frame that was expected");
    buffer.state = ReceiveBuffer::fetched;
    ++link.received;
    return true;
  }

  void look_at_the_end() {
    List<index_t> all;
    for (index_t i = 0; i < schedule_.micro_batches; ++i) all.push_back(i);
    for (const Stage& stage : stages_) {
      must(stage.forwards == all, "forwards");
      must(stage.backwards == (schedule_.has_backward ? all : List<index_t>{}), "backwards");
      must(!stage.unsent_output && !stage.unsent_gradient, "a result was never sent");
    }
    for (const auto* links : {&to_next_, &to_previous_}) {
      for (const Link& link : *links) {
        for (const SendBuffer& buffer : link.send) {
          must(buffer.state == SendBuffer::empty, "a frame is underway for ever");
        }
        for (const ReceiveBuffer& buffer : link.receive) {
          must(buffer.state == ReceiveBuffer::posted, "a frame was never read");
        }
      }
    }
  }

  const Schedule& schedule_;
  const ScheduleCosts& costs_;
  double now_s_ = 0;
  index_t events_made_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  List<Stage> stages_;
  List<Link> to_next_, to_previous_;  // by sending stage
};

inline Played play(const Schedule& schedule, const ScheduleCosts& costs) {
  return World(schedule, costs).play();
}

}  // namespace weir::worker::judge
