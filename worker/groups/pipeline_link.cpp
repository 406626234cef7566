#include "worker/groups/pipeline_link.hpp"

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/wait.hpp"
#include "common/net/channel.hpp"
#include "common/number/memory.hpp"

namespace weir::worker {

namespace {

ChannelKind kind_of(Direction direction) {
  return direction == Direction::forward ? ChannelKind::activation : ChannelKind::gradient;
}

/// Buffers for frames of one shape, each one run of bytes with its tensors one after the other.
class FrameSlots {
 public:
  FrameSlots(const FrameShape& shape, index_t slots) {
    constexpr index_t kWord = 4;  // messages are whole words
    index_t frame_bytes = 0;
    for (const TensorShape& tensor : shape) frame_bytes += round_up(tensor.bytes(), kWord);
    memory_ = Memory(frame_bytes * slots, 1);
    for (index_t slot = 0; slot < slots; ++slot) {
      std::byte* at = memory_.data() + slot * frame_bytes;
      bytes_.emplace_back(at, static_cast<std::size_t>(frame_bytes));
      Frame& frame = frames_.emplace_back();
      for (const TensorShape& tensor : shape) {
        const Vector elements(at, tensor.dtype, MemoryKind::host, tensor.rows * tensor.columns);
        frame.emplace_back(elements, tensor.rows, tensor.columns);
        at += round_up(tensor.bytes(), kWord);
      }
    }
  }
  const std::vector<std::span<std::byte>>& bytes() const { return bytes_; }
  std::vector<std::span<const std::byte>> const_bytes() const {
    return {bytes_.begin(), bytes_.end()};
  }
  const Frame& frame(std::size_t slot) const { return frames_[slot]; }

 private:
  Memory memory_;
  std::vector<std::span<std::byte>> bytes_;  ///< one a slot
  std::vector<Frame> frames_;                ///< one a slot
};

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
  Outlet(const Comm& comm, int peer, Direction direction, const FrameShape& shape, index_t slots)
      : rank(comm.rank_in_job(peer)),
        frames(shape, slots),
        channel(comm, peer, kind_of(direction), frames.const_bytes(), static_cast<int>(slots)),
        turn{slots} {}

  int rank;  ///< the peer's, in the job
  FrameSlots frames;
  SendChannel channel;
  Turn turn;
};

struct Inlet {
  Inlet(const Comm& comm, int peer, Direction direction, const FrameShape& shape, index_t slots)
      : rank(comm.rank_in_job(peer)),
        frames(shape, slots),
        channel(comm, peer, kind_of(direction), frames.bytes(), static_cast<int>(slots)),
        arrived(slots),
        turn{slots} {
    channel.open_round();
  }
  ~Inlet() {
    // No more frames will come for the buffers that wait for a next step.
    if (std::uncaught_exceptions() == 0) channel.cancel();
  }
  /// True if anything came.
  bool progress() {
    const auto slots = channel.progress();
    for (const index_t slot : slots) arrived[slot] = true;
    return !slots.empty();
  }

  int rank;
  FrameSlots frames;
  ReceiveChannel channel;
  std::vector<bool> arrived;
  Turn turn;
};

/// This stage's ends of the links of one of its chunks.
struct ChunkEnds {
  std::optional<Outlet> forward_out, backward_out;
  std::optional<Inlet> forward_in, backward_in;

  void progress() {
    for (auto* out : {&forward_out, &backward_out}) {
      if (*out) (*out)->channel.progress();
    }
    for (auto* in : {&forward_in, &backward_in}) {
      if (*in && (*in)->progress()) note_move();
    }
  }
};

}  // namespace

struct PipelineLink::State {
  /// One for the borders of as many chunks as there are stages, so that two stages have one link of
  /// a kind in it. They are the link's own: receives that an earlier link has not cancelled yet
  /// must not catch its frames.
  List<Comm> comms;
  std::vector<ChunkEnds> chunks;
  std::function<bool()> progress_elsewhere;
  double waited_seconds = 0;

  ChunkEnds& ends(index_t chunk) {
    const Comm& comm = comms.front();
    WEIR_ASSERT(chunk % comm.size() == comm.rank() && chunk / comm.size() < std::ssize(chunks));
    return chunks[static_cast<std::size_t>(chunk / comm.size())];
  }
  Outlet& outlet(Direction direction, index_t chunk) {
    ChunkEnds& own = ends(chunk);
    auto& out = direction == Direction::forward ? own.forward_out : own.backward_out;
    WEIR_ASSERT(out.has_value());
    return *out;
  }
  Inlet& inlet(Direction direction, index_t chunk) {
    ChunkEnds& own = ends(chunk);
    auto& in = direction == Direction::forward ? own.forward_in : own.backward_in;
    WEIR_ASSERT(in.has_value());
    return *in;
  }

  void connect(index_t chunk, const ChunkBorders& borders, index_t slots) {
    const int stages = comms.front().size();
    ChunkEnds& own = ends(chunk);
    if (chunk > 0) {
      WEIR_ASSERT(!borders.entering.empty());
      const Comm& comm = comms[(chunk - 1) / stages];
      const int previous = static_cast<int>((chunk - 1) % stages);
      own.forward_in.emplace(comm, previous, Direction::forward, borders.entering, slots);
      own.backward_out.emplace(comm, previous, Direction::backward, borders.entering, slots);
    }
    if (chunk + 1 < stages * std::ssize(chunks)) {
      WEIR_ASSERT(!borders.leaving.empty());
      const Comm& comm = comms[chunk / stages];
      const int next = static_cast<int>((chunk + 1) % stages);
      own.forward_out.emplace(comm, next, Direction::forward, borders.leaving, slots);
      own.backward_in.emplace(comm, next, Direction::backward, borders.leaving, slots);
    }
  }

  void progress() {
    for (ChunkEnds& each : chunks) each.progress();
  }

  template <class Done>
  void wait(const char* what, int rank, Done&& done) {
    if (done()) return;
    const Waiting waiting(what, rank);
    const double begin = seconds_now();
    wait_until(done, [&] {
      progress();
      return progress_elsewhere();
    });
    waited_seconds += seconds_now() - begin;
  }
};

PipelineLink::PipelineLink(const Comm& comm, const std::vector<ChunkBorders>& chunks, index_t slots,
                           std::function<bool()> progress)
    : state_(std::make_unique<State>()) {
  WEIR_ASSERT(slots > 0 && (comm.size() > 1 || chunks.size() == 1));
  for (std::size_t round = 0; round < chunks.size(); ++round) {
    state_->comms.push_back(comm.duplicate());
  }
  state_->progress_elsewhere = std::move(progress);
  state_->chunks = std::vector<ChunkEnds>(chunks.size());
  index_t chunk = comm.rank();
  for (const ChunkBorders& borders : chunks) {
    state_->connect(chunk, borders, slots);
    chunk += comm.size();
  }
}

PipelineLink::~PipelineLink() = default;

void PipelineLink::send(Direction direction, index_t chunk, index_t micro_batch,
                        const Frame& frame) {
  Outlet& out = state_->outlet(direction, chunk);
  WEIR_ASSERT(micro_batch == out.turn.this_step);
  const std::size_t slot = out.turn.slot_of(micro_batch);
  const Frame& buffer = out.frames.frame(slot);
  WEIR_ASSERT(frame.size() == buffer.size());
  state_->wait("a frame to leave", out.rank, [&] { return out.channel.sent(slot); });
  for (std::size_t tensor = 0; tensor < frame.size(); ++tensor) {
    const Matrix to = buffer[tensor].rows(0, frame[tensor].extent(0));
    WEIR_ASSERT(frame[tensor].has_shape_of(to) && frame[tensor].dtype() == to.dtype());
    std::ranges::copy(frame[tensor].flat().bytes(), to.flat().bytes().begin());
  }
  out.channel.offer(slot);
  ++out.turn.this_step;
}

const Frame& PipelineLink::receive(Direction direction, index_t chunk, index_t micro_batch) {
  Inlet& in = state_->inlet(direction, chunk);
  WEIR_ASSERT(micro_batch == in.turn.this_step);
  const std::size_t slot = in.turn.slot_of(micro_batch);
  state_->wait("a frame", in.rank, [&] { return bool(in.arrived[slot]); });
  ++in.turn.this_step;
  return in.frames.frame(slot);
}

void PipelineLink::release(Direction direction, index_t chunk, index_t micro_batch) {
  Inlet& in = state_->inlet(direction, chunk);
  const std::size_t slot = in.turn.slot_of(micro_batch);
  WEIR_ASSERT(micro_batch < in.turn.this_step && in.arrived[slot]);
  in.arrived[slot] = false;
  in.channel.open(slot);
}

void PipelineLink::end_step() {
  for (ChunkEnds& each : state_->chunks) {
    for (auto* out : {&each.forward_out, &each.backward_out}) {
      if (!*out) continue;
      state_->wait("its frames to leave", (*out)->rank, [&] { return (*out)->channel.idle(); });
      (*out)->turn.end_step();
    }
    for (auto* in : {&each.forward_in, &each.backward_in}) {
      if (*in) (*in)->turn.end_step();
    }
  }
}

void PipelineLink::progress() { state_->progress(); }

double PipelineLink::waited_seconds() const { return state_->waited_seconds; }

}  // namespace weir::worker
