#pragma once

#include <deque>
#include <memory>

#include "common/net/channel.hpp"

namespace weir {

/// Frames that also leave spans in the trace: a frame that is sent, from its offer until it has
/// left; a frame that is received, from when its place was open for it until it has come. The ends
/// that they stand in front of move everything.
class TracedSender final : public FrameSender {
 public:
  /// what: a literal. peer: a rank of the job.
  TracedSender(std::unique_ptr<FrameSender> inner, const char* what, int peer)
      : inner_(std::move(inner)), what_(what), peer_(peer) {}

  void offer(index_t frame) override;
  bool progress() override;
  bool sent(index_t frame) const override { return inner_->sent(frame); }
  bool idle() const override { return inner_->idle(); }
  bool read_by_peer() const override { return inner_->read_by_peer(); }

 private:
  struct Leaving {
    index_t frame;
    double begin_s;
  };
  void record_sent();

  std::unique_ptr<FrameSender> inner_;
  const char* what_;
  int peer_;
  std::deque<Leaving> leaving_;  ///< the oldest offer first
};

class TracedReceiver final : public FrameReceiver {
 public:
  TracedReceiver(std::unique_ptr<FrameReceiver> inner, const char* what, int peer,
                 index_t frame_count)
      : inner_(std::move(inner)), what_(what), peer_(peer), opened_s_(frame_count, 0) {}

  void open(index_t frame) override;
  void open_round() override;
  std::span<const index_t> progress() override;

 private:
  std::unique_ptr<FrameReceiver> inner_;
  const char* what_;
  int peer_;
  List<double> opened_s_;  ///< one a frame
};

/// An end of a channel of this kind with `peer`, a rank of the job: as it is, or with spans if a
/// trace is recorded.
std::unique_ptr<FrameSender> traced(std::unique_ptr<FrameSender> sender, ChannelKind kind,
                                    int peer);
/// Only that of a pull has spans: a server cannot tell when a push was begun.
std::unique_ptr<FrameReceiver> traced(std::unique_ptr<FrameReceiver> receiver, ChannelKind kind,
                                      int peer, index_t frame_count);

}  // namespace weir
