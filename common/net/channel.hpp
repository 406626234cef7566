#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "common/base/list.hpp"
#include "common/net/mpi.hpp"

namespace weir {

/// What a channel carries. Both ends name it; between two ranks there is one channel of a kind in
/// each direction.
enum class ChannelKind { push = 1, pull, activation, gradient, residual, weights };
const char* name_of(ChannelKind kind);

/// Frames that may be under way at once in a channel, unless --ring-depth says otherwise. Measured
/// for 100 MiB in buckets of 1 MiB: 4 to 8 reach 94 % of the bound; hundreds posted ahead take
/// twice the time.
inline constexpr int kChannelDepth = 4;

/// Floats as frames.
List<std::span<const std::byte>> frames_of(const List<std::span<const float>>& floats);
List<std::span<std::byte>> frames_of(const List<std::span<float>>& floats);

/// What both ends of a channel share: its persistent requests, one a frame, used round after round.
/// Frame i of round r is transfer r * frames + i; transfers start in this order, and at most
/// `depth` neighbours run at once.
class RequestRing {
 public:
  /// planned_bytes: what each frame must have when it arrives; empty for sends. `name` begins
  /// errors: "push to rank 3".
  RequestRing(List<Request> requests, List<index_t> planned_bytes, int depth, std::string name);
  RequestRing(RequestRing&&) = default;
  ~RequestRing();

  index_t frame_count() const { return requests_.size(); }
  index_t started() const { return started_; }
  bool running() const { return oldest_ < started_; }
  index_t ended_rounds(index_t frame) const { return ended_rounds_[frame]; }

  index_t next_frame() const { return started_ % frame_count(); }
  bool has_room() const { return started_ - oldest_ < depth_; }
  void start();
  /// The frames whose transfer has ended since the last call. Throws Error if one came in another
  /// size than planned.
  std::span<const index_t> test();
  void cancel();

 private:
  void check_size(index_t frame, const MPI_Status& status) const;
  [[noreturn]] void fail(index_t frame, const MPI_Status& status) const;

  List<Request> requests_;
  List<index_t> planned_bytes_;
  std::string name_;
  index_t depth_;
  index_t started_ = 0;
  index_t oldest_ = 0;  ///< every transfer before this one has ended
  List<index_t> ended_rounds_;
  List<MPI_Request> slots_;  ///< transfer t runs in slot t % depth; null if none
  List<index_t> slot_frames_;
  List<int> ended_slots_;
  List<MPI_Status> statuses_;
  List<index_t> ended_frames_;
};

/// This rank's end of an endlessly repeated row of frames to one peer: as messages (SendChannel) or
/// through memory that both see (WindowSender).
class FrameSender {
 public:
  virtual ~FrameSender() = default;
  /// Frame `frame` may leave; frames are offered in order, round after round. Never blocks.
  virtual void offer(index_t frame) = 0;
  /// Moves what travels; true if anything moved.
  virtual bool progress() = 0;
  /// Whether every offer of this frame has left.
  virtual bool sent(index_t frame) const = 0;
  /// Whether everything offered has left.
  virtual bool idle() const = 0;
  /// Whether the peer reads the frames where they lie and may still be doing so; they must not
  /// change then. Ask between rounds.
  virtual bool read_by_peer() const = 0;
};

/// The other end.
class FrameReceiver {
 public:
  virtual ~FrameReceiver() = default;
  /// Says that this rank is done with the frame and the next round may come. Called once a round,
  /// after the frame has arrived. At first all frames are closed.
  virtual void open(index_t frame) = 0;
  virtual void open_round() = 0;
  /// Moves what travels. Returns the frames that have arrived since the last call, each once a
  /// round and none that was not opened. Valid until the next call.
  virtual std::span<const index_t> progress() = 0;
};

/// Sends frames as messages: raw bytes without a header, from where they lie. The peer's
/// ReceiveChannel has the same number of frames with the same sizes. Destroying it while a frame is
/// under way is a bug.
class SendChannel final : public FrameSender {
 public:
  /// frames[i] must stay where it is and has an even number of bytes. An empty frame travels too.
  SendChannel(const Comm& comm, int peer, ChannelKind kind,
              const List<std::span<const std::byte>>& frames, int depth = kChannelDepth);

  /// Frame `frame` may leave; frames are offered in order, round after round. Never blocks: what
  /// cannot leave yet leaves in a later progress(). The bytes must not change until sent(frame),
  /// or until the peer has answered in another way that it has them.
  void offer(index_t frame) override;
  bool progress() override;
  bool sent(index_t frame) const override;
  bool idle() const override { return offered_ == ring_.started() && !ring_.running(); }
  bool read_by_peer() const override { return false; }  // the peer has its own copy

 private:
  bool start_offered();

  RequestRing ring_;
  index_t offered_ = 0;
};

/// The other end: every frame lands where its owner wants it, without a copy in between, and is
/// overwritten only when the owner has opened it again. It begins closed.
class ReceiveChannel final : public FrameReceiver {
 public:
  ReceiveChannel(const Comm& comm, int peer, ChannelKind kind,
                 const List<std::span<std::byte>>& frames, int depth = kChannelDepth);

  /// Lets the next round overwrite this frame. Called once a round, after the frame has arrived.
  void open(index_t frame) override;
  void open_round() override;
  /// Frames under way together may arrive in any order. Throws Error if a frame is longer or
  /// shorter than planned.
  std::span<const index_t> progress() override;
  /// Cancels receives that were opened and got nothing. Called before destruction, when no more
  /// frames come.
  void cancel() { ring_.cancel(); }

 private:
  void mark_open(index_t frame);
  void start_open();

  RequestRing ring_;
  List<index_t> opened_rounds_;
};

}  // namespace weir
