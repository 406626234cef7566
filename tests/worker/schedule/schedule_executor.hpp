#pragma once

#include <algorithm>
#include <cstdint>
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
/// it. Activations and gradients are numbers that show everything they were made from.
namespace weir::worker::judge {

using Number = std::uint64_t;

/// A number that depends on the others and on their order.
inline Number made_from(std::initializer_list<Number> numbers) {
  Number all = 0x9e3779b97f4a7c15;
  for (const Number each : numbers) {
    all = (all ^ each) * 0xbf58476d1ce4e5b9;
    all ^= all >> 29;
  }
  return all;
}
inline Number output_of(index_t chunk, Number input) {
  return made_from({1, Number(chunk), input});
}
inline Number input_gradient_of(index_t chunk, Number input, Number output_gradient) {
  return made_from({2, Number(chunk), input, output_gradient});
}
/// The gradients of a chunk's weights after one more micro-batch.
inline Number accumulated(Number before, Number input, Number output_gradient) {
  return made_from({3, before, input, output_gradient});
}
inline Number data_of(index_t micro_batch) { return made_from({4, Number(micro_batch)}); }

/// What a step leaves behind.
struct Result {
  List<Number> losses;            ///< outputs of the last chunk, in the order of the sum
  List<Number> weight_gradients;  ///< each chunk's
  bool operator==(const Result&) const = default;
};

/// What any schedule must leave behind: one micro-batch after the other, without stages.
inline Result result_of_one(index_t chunks, index_t micro_batches, bool has_backward) {
  Result result{{}, List<Number>(chunks, 0)};
  for (index_t i = 0; i < micro_batches; ++i) {
    List<Number> inputs = {data_of(i)};
    for (index_t c = 0; c < chunks; ++c) inputs.push_back(output_of(c, inputs[c]));
    result.losses.push_back(inputs.back());
    Number gradient = inputs.back();
    for (index_t c = chunks; has_backward && c-- > 0;) {
      result.weight_gradients[c] = accumulated(result.weight_gradients[c], inputs[c], gradient);
      gradient = input_gradient_of(c, inputs[c], gradient);
    }
  }
  return result;
}

/// What became of a schedule that was played out.
struct Played {
  std::string broken;  ///< what went wrong first; empty: the step was completed as it must be
  bool stuck = false;  ///< broken because nobody could go on
  double makespan_s = 0;
  List<index_t> peak_activations;
  Result result;
};

struct Broken {
  std::string what;
};

inline void must(bool holds, const char* what) {
  if (!holds) throw Broken{what};
}

// A micro-batch's tensor.
struct Value {
  index_t micro_batch = 0;
  Number number = 0;
};

// One direction between two chunks. `number` is the count of earlier frames of the direction.
struct Frame {
  index_t number = 0;
  Value value;
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

struct Chunk {
  List<std::optional<Value>> activations, gradients;  // by slot
  std::optional<Value> unsent_output, unsent_gradient;
  List<index_t> forwards, backwards, weight_gradients;  // micro-batches in the order they ran
  bool pushed = false;
};

struct Stage {
  index_t next = 0;
  bool busy = false;
  double finished_s = 0;
  index_t peak = 0;
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
        chunks_(schedule.chunks()),
        to_next_(schedule.chunks()),
        to_previous_(schedule.chunks()),
        result_{{}, List<Number>(schedule.chunks(), 0)} {
    for (index_t c = 0; c < chunks_.size(); ++c) {
      chunks_[c].activations.resize(schedule.activation_slots[c]);
      chunks_[c].gradients.resize(schedule.gradient_slots[c]);
      for (Link* link : {&to_next_[c], &to_previous_[c]}) {
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
    played.result = result_;
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
      }
      for (index_t c = 0; c < chunks_.size(); ++c) {
        changed |= start_transfers(to_next_[c]);
        changed |= start_transfers(to_previous_[c]);
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
    const index_t c = action.chunk;
    must(c >= 0 && c < chunks_.size() && c % stages_.size() == s, "a chunk of another stage");
    Chunk& chunk = chunks_[c];
    const bool first = c == 0, last = c + 1 == chunks_.size();
    const ChunkCost& cost = costs_.chunks[c];
    const bool halved = !chunk.gradients.empty();
    const bool of_weights =
        action.kind == ActionKind::backward || action.kind == ActionKind::weight_gradient;
    must(of_weights || !action.pushes, "nothing to push");
    switch (action.kind) {
      case ActionKind::forward:
        return forward(s, action, cost.forward_s);
      case ActionKind::backward:
        must(!halved, "a whole backward instead of its halves");
        return backward(s, action, cost.input_gradient_s + cost.weight_gradient_s, nullptr);
      case ActionKind::input_gradient:
        must(halved, "half a backward");
        must(action.gradient_slot >= 0 && action.gradient_slot < chunk.gradients.size(),
             "no such gradient slot");
        must(!chunk.gradients[action.gradient_slot], "a kept gradient is lost");
        return backward(s, action, cost.input_gradient_s, &chunk.gradients[action.gradient_slot]);
      case ActionKind::weight_gradient:
        must(halved, "half a backward");
        return weight_gradient(s, action, cost.weight_gradient_s);
      case ActionKind::send_forward:
        must(!last, "nobody to send to");
        return send(to_next_[c], action, chunk.unsent_output);
      case ActionKind::send_backward:
        must(!first, "nobody to send to");
        return send(to_previous_[c], action, chunk.unsent_gradient);
      case ActionKind::receive_forward:
        must(!first, "nobody to receive from");
        return receive(to_next_[c - 1], action);
      case ActionKind::receive_backward:
        must(!last, "nobody to receive from");
        return receive(to_previous_[c + 1], action);
    }
    return false;
  }

  ReceiveBuffer* fetched_frame(Link* link, index_t micro_batch) {
    if (link == nullptr) return nullptr;
    for (ReceiveBuffer& buffer : link->receive) {
      if (buffer.state == ReceiveBuffer::fetched && buffer.frame.value.micro_batch == micro_batch) {
        return &buffer;
      }
    }
    throw Broken{"no input"};
  }

  void compute(index_t s, double cost_s, std::function<void()> end) {
    stages_[s].busy = true;
    after(cost_s, [this, s, end = std::move(end)] {
      stages_[s].busy = false;
      stages_[s].finished_s = now_s_;
      end();
    });
  }

  std::optional<Value>& kept(Chunk& chunk, const Action& action) {
    must(action.slot >= 0 && action.slot < chunk.activations.size(), "no such slot");
    return chunk.activations[action.slot];
  }

  void note_peak(index_t s) {
    index_t count = 0;
    for (index_t c = s; c < chunks_.size(); c += stages_.size()) {
      count += std::ranges::count_if(chunks_[c].activations,
                                     [](const auto& held) { return held.has_value(); });
    }
    stages_[s].peak = std::max(stages_[s].peak, count);
  }

  bool forward(index_t s, const Action& action, double cost_s) {
    const index_t c = action.chunk, i = action.micro_batch;
    Chunk& chunk = chunks_[c];
    ReceiveBuffer* frame = fetched_frame(c == 0 ? nullptr : &to_next_[c - 1], i);
    must(!chunk.unsent_output, "an output is lost");
    auto& slot = kept(chunk, action);
    must(!slot, "an activation is lost");
    slot = Value{i, frame ? frame->frame.value.number : data_of(i)};
    note_peak(s);
    chunk.forwards.push_back(i);
    compute(s, cost_s, [this, c, &slot, frame, i] {
      if (frame) frame->state = ReceiveBuffer::posted;
      const Number output = output_of(c, slot->number);
      if (c + 1 == chunks_.size()) {
        result_.losses.push_back(output);
      } else {
        chunks_[c].unsent_output = Value{i, output};
      }
      if (!schedule_.has_backward) slot.reset();
    });
    return true;
  }

  // `kept_gradient`: where what the weights' half needs goes; none: it happens here.
  bool backward(index_t s, const Action& action, double cost_s,
                std::optional<Value>* kept_gradient) {
    must(schedule_.has_backward, "a backward in evaluation");
    const index_t c = action.chunk, i = action.micro_batch;
    Chunk& chunk = chunks_[c];
    const bool last = c + 1 == chunks_.size();
    ReceiveBuffer* frame = fetched_frame(last ? nullptr : &to_previous_[c + 1], i);
    must(!chunk.unsent_gradient, "a gradient is lost");
    auto& slot = kept(chunk, action);
    must(slot && slot->micro_batch == i, "not the activation of this micro-batch");
    chunk.backwards.push_back(i);
    const Number gradient = frame ? frame->frame.value.number : output_of(c, slot->number);
    if (kept_gradient) *kept_gradient = Value{i, gradient};
    compute(s, cost_s, [this, c, &slot, frame, gradient, kept_gradient, action] {
      if (frame) frame->state = ReceiveBuffer::posted;
      const Number result = input_gradient_of(c, slot->number, gradient);
      if (c > 0) chunks_[c].unsent_gradient = Value{action.micro_batch, result};
      if (!kept_gradient) accumulate(action, slot, gradient);
    });
    return true;
  }

  bool weight_gradient(index_t s, const Action& action, double cost_s) {
    Chunk& chunk = chunks_[action.chunk];
    auto& slot = kept(chunk, action);
    must(slot && slot->micro_batch == action.micro_batch, "not the activation of this micro-batch");
    must(action.gradient_slot >= 0 && action.gradient_slot < chunk.gradients.size(),
         "no such gradient slot");
    auto& gradient = chunk.gradients[action.gradient_slot];
    must(gradient && gradient->micro_batch == action.micro_batch,
         "not the gradient of this micro-batch");
    compute(s, cost_s, [this, action, &slot, &gradient] {
      accumulate(action, slot, gradient->number);
      gradient.reset();
    });
    return true;
  }

  // The end of what adds to the weights' gradients.
  void accumulate(const Action& action, std::optional<Value>& slot, Number gradient) {
    Number& sum = result_.weight_gradients[action.chunk];
    sum = accumulated(sum, slot->number, gradient);
    slot.reset();
    Chunk& chunk = chunks_[action.chunk];
    must(!chunk.pushed, "a gradient comes after the push");
    chunk.weight_gradients.push_back(action.micro_batch);
    if (!action.pushes) return;
    chunk.pushed = true;
    for (index_t c = action.chunk; c < chunks_.size(); c += stages_.size()) {
      must(chunks_[c].pushed, "a push before that of a later chunk");
    }
  }

  bool send(Link& link, const Action& action, std::optional<Value>& result) {
    must(result && result->micro_batch == action.micro_batch, "no such result to send");
    must(link.sent == action.micro_batch, "not the frame's turn");
    const index_t b = link.sent % schedule_.link_slots;
    must(action.slot == b, "another send buffer");
    SendBuffer& buffer = link.send[b];
    if (buffer.state != SendBuffer::empty) return false;
    buffer = {SendBuffer::waiting, {link.sent++, *result}};
    result.reset();
    return true;
  }

  bool receive(Link& link, const Action& action) {
    const index_t b = link.received % schedule_.link_slots;
    must(action.slot == b, "another receive buffer");
    ReceiveBuffer& buffer = link.receive[b];
    if (buffer.state != ReceiveBuffer::arrived) return false;
    must(buffer.frame.number == link.received, "frames out of turn");
    must(buffer.frame.value.micro_batch == action.micro_batch, "not the frame that was expected");
    buffer.state = ReceiveBuffer::fetched;
    ++link.received;
    return true;
  }

  void look_at_the_end() {
    List<index_t> all;
    for (index_t i = 0; i < schedule_.micro_batches; ++i) all.push_back(i);
    const List<index_t> of_backward = schedule_.has_backward ? all : List<index_t>{};
    for (const Chunk& chunk : chunks_) {
      must(chunk.forwards == all, "forwards");
      must(chunk.backwards == of_backward, "backwards");
      must(chunk.weight_gradients == of_backward, "weight gradients");
      must(chunk.pushed == schedule_.has_backward, "pushes");
      must(!chunk.unsent_output && !chunk.unsent_gradient, "a result was never sent");
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
  List<Chunk> chunks_;
  List<Link> to_next_, to_previous_;  // by sending chunk
  Result result_;
};

inline Played play(const Schedule& schedule, const ScheduleCosts& costs) {
  return World(schedule, costs).play();
}

}  // namespace weir::worker::judge
