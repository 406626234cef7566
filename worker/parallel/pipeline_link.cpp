#include "worker/parallel/pipeline_link.hpp"

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/net/channel.hpp"
#include "common/net/wait.hpp"
#include "common/number/buffer.hpp"

namespace weir::worker {

namespace {

ChannelKind kind_of(Direction direction) {
  return direction == Direction::forward ? ChannelKind::activation : ChannelKind::gradient;
}

template <class T>
std::vector<std::span<T>> cut(Buffer& memory, index_t frame_elements) {
  std::vector<std::span<T>> frames;
  for (index_t begin = 0; begin < memory.size(); begin += frame_elements) {
    frames.push_back(memory.span().subspan(static_cast<std::size_t>(begin),
                                           static_cast<std::size_t>(frame_elements)));
  }
  return frames;
}

/// Both ends take their buffers in turn over all steps; micro-batches count from 0 in each step.
struct Turn {
  index_t slots;
  index_t earlier_steps = 0;  ///< frames of them
  index_t this_step = 0;

  std::size_t slot_of(index_t micro_batch) const {
    return static_cast<std::size_t>((earlier_steps + micro_batch) % slots);
  }
  void end_step() { earlier_steps += std::exchange(this_step, 0); }
};

struct Outlet {
  Outlet(const Comm& comm, int peer, Direction direction, index_t frame_elements, index_t slots)
      : memory(frame_elements * slots),
        frames(cut<float>(memory, frame_elements)),
        channel(comm, peer, kind_of(direction), frames_of(cut<const float>(memory, frame_elements)),
                static_cast<int>(slots)),
        turn{slots} {}

  Buffer memory;
  std::vector<std::span<float>> frames;
  SendChannel channel;
  Turn turn;
};

struct Inlet {
  Inlet(const Comm& comm, int peer, Direction direction, index_t frame_elements, index_t slots)
      : memory(frame_elements * slots),
        frames(cut<float>(memory, frame_elements)),
        channel(comm, peer, kind_of(direction), frames_of(frames), static_cast<int>(slots)),
        arrived(static_cast<std::size_t>(slots)),
        turn{slots} {
    channel.open_round();
  }
  ~Inlet() {
    // Nothing more will come for the buffers that wait for a next step.
    if (std::uncaught_exceptions() == 0) channel.cancel();
  }
  void progress() {
    for (const index_t slot : channel.progress()) arrived[static_cast<std::size_t>(slot)] = true;
  }

  Buffer memory;
  std::vector<std::span<float>> frames;
  ReceiveChannel channel;
  std::vector<bool> arrived;
  Turn turn;
};

}  // namespace

struct PipelineLink::State {
  /// Of its own: receives that an earlier link has not cancelled yet must not catch our frames.
  Comm comm;
  std::optional<Outlet> forward_out, backward_out;
  std::optional<Inlet> forward_in, backward_in;
  std::function<bool()> progress_elsewhere;
  double waited_seconds = 0;

  Outlet& outlet(Direction direction) {
    auto& out = direction == Direction::forward ? forward_out : backward_out;
    WEIR_ASSERT(out.has_value());
    return *out;
  }
  Inlet& inlet(Direction direction) {
    auto& in = direction == Direction::forward ? forward_in : backward_in;
    WEIR_ASSERT(in.has_value());
    return *in;
  }

  void progress() {
    for (auto* out : {&forward_out, &backward_out}) {
      if (*out) (*out)->channel.progress();
    }
    for (auto* in : {&forward_in, &backward_in}) {
      if (*in) (*in)->progress();
    }
  }

  template <class Done>
  void wait(Done&& done) {
    if (done()) return;
    const double begin = seconds_now();
    wait_until(done, [&] {
      progress();
      return progress_elsewhere();
    });
    waited_seconds += seconds_now() - begin;
  }
};

PipelineLink::PipelineLink(const Comm& comm, index_t frame_elements, index_t slots,
                           std::function<bool()> progress)
    : state_(std::make_unique<State>()) {
  WEIR_ASSERT(frame_elements > 0 && slots > 0);
  state_->comm = comm.duplicate();
  state_->progress_elsewhere = std::move(progress);
  if (comm.rank() > 0) {
    const int previous = comm.rank() - 1;
    state_->forward_in.emplace(state_->comm, previous, Direction::forward, frame_elements, slots);
    state_->backward_out.emplace(state_->comm, previous, Direction::backward, frame_elements,
                                 slots);
  }
  if (comm.rank() < comm.size() - 1) {
    const int next = comm.rank() + 1;
    state_->forward_out.emplace(state_->comm, next, Direction::forward, frame_elements, slots);
    state_->backward_in.emplace(state_->comm, next, Direction::backward, frame_elements, slots);
  }
}

PipelineLink::~PipelineLink() = default;

void PipelineLink::send(Direction direction, index_t micro_batch, std::span<const float> frame) {
  Outlet& out = state_->outlet(direction);
  WEIR_ASSERT(micro_batch == out.turn.this_step);
  const std::size_t slot = out.turn.slot_of(micro_batch);
  WEIR_ASSERT(frame.size() <= out.frames[slot].size());
  state_->wait([&] { return out.channel.sent(static_cast<index_t>(slot)); });
  std::ranges::copy(frame, out.frames[slot].begin());
  out.channel.offer(static_cast<index_t>(slot));
  ++out.turn.this_step;
}

std::span<const float> PipelineLink::receive(Direction direction, index_t micro_batch) {
  Inlet& in = state_->inlet(direction);
  WEIR_ASSERT(micro_batch == in.turn.this_step);
  const std::size_t slot = in.turn.slot_of(micro_batch);
  state_->wait([&] { return bool(in.arrived[slot]); });
  ++in.turn.this_step;
  return in.frames[slot];
}

void PipelineLink::release(Direction direction, index_t micro_batch) {
  Inlet& in = state_->inlet(direction);
  const std::size_t slot = in.turn.slot_of(micro_batch);
  WEIR_ASSERT(micro_batch < in.turn.this_step && in.arrived[slot]);
  in.arrived[slot] = false;
  in.channel.open(static_cast<index_t>(slot));
}

void PipelineLink::end_step() {
  for (auto* out : {&state_->forward_out, &state_->backward_out}) {
    if (!*out) continue;
    state_->wait([&] { return (*out)->channel.idle(); });
    (*out)->turn.end_step();
  }
  for (auto* in : {&state_->forward_in, &state_->backward_in}) {
    if (*in) (*in)->turn.end_step();
  }
}

void PipelineLink::progress() { state_->progress(); }

double PipelineLink::waited_seconds() const { return state_->waited_seconds; }

}  // namespace weir::worker
