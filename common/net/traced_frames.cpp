#include "common/net/traced_frames.hpp"

#include "common/base/trace.hpp"

namespace weir {
namespace {

void record(const char* what, int peer, index_t frame, double begin_s) {
  record_span({.kind = SpanKind::transfer,
               .what = what,
               .begin_s = begin_s,
               .peer = peer,
               .piece = static_cast<std::int32_t>(frame)});
}

}  // namespace

void TracedSender::offer(index_t frame) {
  leaving_.push_back({frame, span_begin()});
  inner_->offer(frame);
  record_sent();
}

bool TracedSender::progress() {
  const bool moved = inner_->progress();
  if (moved) record_sent();
  return moved;
}

void TracedSender::record_sent() {
  while (!leaving_.empty() && inner_->sent(leaving_.front().frame)) {
    record(what_, peer_, leaving_.front().frame, leaving_.front().begin_s);
    leaving_.pop_front();
  }
}

void TracedReceiver::open(index_t frame) {
  opened_s_[frame] = span_begin();
  inner_->open(frame);
}

void TracedReceiver::open_round() {
  opened_s_.assign(opened_s_.size(), span_begin());
  inner_->open_round();
}

std::span<const index_t> TracedReceiver::progress() {
  const auto arrived = inner_->progress();
  for (const index_t frame : arrived) record(what_, peer_, frame, opened_s_[frame]);
  return arrived;
}

std::unique_ptr<FrameSender> traced(std::unique_ptr<FrameSender> sender, ChannelKind kind,
                                    int peer) {
  if (!trace_is_on()) return sender;
  return std::make_unique<TracedSender>(std::move(sender), name_of(kind), peer);
}

std::unique_ptr<FrameReceiver> traced(std::unique_ptr<FrameReceiver> receiver, ChannelKind kind,
                                      int peer, index_t frame_count) {
  if (!trace_is_on() || kind != ChannelKind::pull) return receiver;
  return std::make_unique<TracedReceiver>(std::move(receiver), name_of(kind), peer, frame_count);
}

}  // namespace weir
