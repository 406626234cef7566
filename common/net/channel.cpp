#include "common/net/channel.hpp"

#include <algorithm>
#include <exception>

#include "common/base/error.hpp"
#include "common/net/words.hpp"

namespace weir {

namespace {

/// Each frame has a tag of its own: one that is lost is missed, whatever comes after it, and no
/// other lands in its memory. A ControlPort has tags that are multiples of 8.
int tag_of(ChannelKind kind, index_t frame) {
  return static_cast<int>(kind) + 8 * static_cast<int>(frame);
}

List<Request> send_requests(const Comm& comm, int peer, ChannelKind kind,
                            const List<std::span<const std::byte>>& frames) {
  List<Request> requests;
  for (const auto frame : frames) {
    const Words words(frame.size());
    MPI_Request raw = MPI_REQUEST_NULL;
    const int tag = tag_of(kind, requests.size());
    check_mpi(MPI_Send_init(frame.data(), words.count, words.type, peer, tag, comm.raw(), &raw),
              "preparing a send");
    requests.emplace_back(raw);
  }
  return requests;
}

List<Request> receive_requests(const Comm& comm, int peer, ChannelKind kind,
                               const List<std::span<std::byte>>& frames) {
  List<Request> requests;
  for (const auto frame : frames) {
    const Words words(frame.size());
    MPI_Request raw = MPI_REQUEST_NULL;
    const int tag = tag_of(kind, requests.size());
    check_mpi(MPI_Recv_init(frame.data(), words.count, words.type, peer, tag, comm.raw(), &raw),
              "preparing a receive");
    requests.emplace_back(raw);
  }
  return requests;
}

List<index_t> sizes_of(const List<std::span<std::byte>>& frames) {
  List<index_t> sizes;
  sizes.reserve(frames.size());
  for (const auto frame : frames) sizes.push_back(std::ssize(frame));
  return sizes;
}

}  // namespace

const char* name_of(ChannelKind kind) {
  switch (kind) {
    case ChannelKind::push:
      return "push";
    case ChannelKind::pull:
      return "pull";
    case ChannelKind::activation:
      return "activation";
    case ChannelKind::gradient:
      return "gradient";
    case ChannelKind::residual:
      return "residual";
    case ChannelKind::weights:
      return "weights";
  }
  WEIR_UNREACHABLE();
}

List<std::span<const std::byte>> frames_of(const List<std::span<const float>>& floats) {
  List<std::span<const std::byte>> frames;
  for (const auto each : floats) frames.push_back(std::as_bytes(each));
  return frames;
}

List<std::span<std::byte>> frames_of(const List<std::span<float>>& floats) {
  List<std::span<std::byte>> frames;
  for (const auto each : floats) frames.push_back(std::as_writable_bytes(each));
  return frames;
}

RequestRing::RequestRing(List<Request> requests, List<index_t> planned_bytes, int depth,
                         std::string name)
    : requests_(std::move(requests)),
      planned_bytes_(std::move(planned_bytes)),
      name_(std::move(name)),
      // More than one round at once would start a request twice.
      depth_(std::min<index_t>(depth, requests_.size())),
      ended_rounds_(requests_.size()) {
  WEIR_ASSERT(depth > 0);
  slots_.assign(depth_, MPI_REQUEST_NULL);
  slot_frames_.resize(depth_);
  ended_slots_.resize(depth_);
  statuses_.resize(depth_);
}

RequestRing::~RequestRing() {
  // While unwinding the process is about to end, whatever travels.
  const bool moved_from = slots_.empty();
  WEIR_ASSERT(moved_from || !running() || std::uncaught_exceptions() > 0);
}

void RequestRing::start() {
  WEIR_ASSERT(has_room());
  const index_t frame = next_frame();
  const index_t slot = started_ % depth_;
  MPI_Request request = requests_[frame].get();
  check_mpi(MPI_Start(&request), name_.c_str());
  slots_[slot] = request;
  slot_frames_[slot] = frame;
  ++started_;
}

std::span<const index_t> RequestRing::test() {
  ended_frames_.clear();
  if (!running()) return {};
  int ended = 0;
  // Not MPI_Testall: it returns success for a persistent receive that was too short.
  const int code = MPI_Testsome(static_cast<int>(slots_.size()), slots_.data(), &ended,
                                ended_slots_.data(), statuses_.data());
  if (code != MPI_ERR_IN_STATUS) check_mpi(code, name_.c_str());
  WEIR_ASSERT(ended != MPI_UNDEFINED);
  for (int i = 0; i < ended; ++i) {
    const int slot = ended_slots_[i];
    const MPI_Status& status = statuses_[i];
    const index_t frame = slot_frames_[slot];
    if (code == MPI_ERR_IN_STATUS && status.MPI_ERROR != MPI_SUCCESS) {
      // Open MPI frees a request that fails, persistent or not.
      if (slots_[slot] == MPI_REQUEST_NULL) requests_[frame].release();
      fail(frame, status);
    }
    if (!planned_bytes_.empty()) check_size(frame, status);
    slots_[slot] = MPI_REQUEST_NULL;
    ++ended_rounds_[frame];
    ended_frames_.push_back(frame);
  }
  while (oldest_ < started_ && slots_[oldest_ % depth_] == MPI_REQUEST_NULL) {
    ++oldest_;
  }
  return ended_frames_;
}

void RequestRing::check_size(index_t frame, const MPI_Status& status) const {
  MPI_Count bytes = 0;
  check_mpi(MPI_Get_elements_x(&status, MPI_BYTE, &bytes), name_.c_str());
  const index_t planned = planned_bytes_[frame];
  if (bytes == planned) return;
  throw Error(text(name_, ": frame ", frame, " has ", bytes, " bytes, the plan says ", planned,
                   "; do all ranks run the same program with the same configuration?"));
}

void RequestRing::fail(index_t frame, const MPI_Status& status) const {
  int error_class = 0;
  MPI_Error_class(status.MPI_ERROR, &error_class);
  if (error_class == MPI_ERR_TRUNCATE) {
    throw Error(text(name_, ": frame ", frame, " is longer than the ", planned_bytes_[frame],
                     " bytes of the plan; do all ranks run the same program with the same "
                     "configuration?"));
  }
  check_mpi(status.MPI_ERROR, text(name_, ": frame ", frame).c_str());
  WEIR_UNREACHABLE();
}

void RequestRing::cancel() {
  for (MPI_Request& request : slots_) {
    if (request == MPI_REQUEST_NULL) continue;
    check_mpi(MPI_Cancel(&request), name_.c_str());
    check_mpi(MPI_Wait(&request, MPI_STATUS_IGNORE), name_.c_str());
    request = MPI_REQUEST_NULL;
  }
  oldest_ = started_;
}

SendChannel::SendChannel(const Comm& comm, int peer, ChannelKind kind,
                         const List<std::span<const std::byte>>& frames, int depth)
    : ring_(send_requests(comm, peer, kind, frames), {}, depth,
            text(name_of(kind), " to rank ", peer)) {}

void SendChannel::offer(index_t frame) {
  WEIR_ASSERT(ring_.frame_count() > 0 && frame == offered_ % ring_.frame_count());
  ++offered_;
  start_offered();
}

bool SendChannel::start_offered() {
  const index_t before = ring_.started();
  while (ring_.started() < offered_ && ring_.has_room()) ring_.start();
  return ring_.started() > before;
}

bool SendChannel::progress() {
  const bool ended_any = !ring_.test().empty();
  return start_offered() || ended_any;
}

bool SendChannel::sent(index_t frame) const {
  const index_t frames = ring_.frame_count();
  const index_t offers = offered_ / frames + (frame < offered_ % frames ? 1 : 0);
  return ring_.ended_rounds(frame) == offers;
}

ReceiveChannel::ReceiveChannel(const Comm& comm, int peer, ChannelKind kind,
                               const List<std::span<std::byte>>& frames, int depth)
    : ring_(receive_requests(comm, peer, kind, frames), sizes_of(frames), depth,
            text(name_of(kind), " from rank ", peer)),
      opened_rounds_(frames.size()) {}

void ReceiveChannel::open(index_t frame) {
  mark_open(frame);
  start_open();
}

void ReceiveChannel::open_round() {
  for (index_t frame = 0; frame < ring_.frame_count(); ++frame) mark_open(frame);
  start_open();
}

void ReceiveChannel::mark_open(index_t frame) {
  index_t& opened = opened_rounds_[frame];
  WEIR_ASSERT(opened == ring_.ended_rounds(frame));
  ++opened;
}

void ReceiveChannel::start_open() {
  while (ring_.has_room() &&
         ring_.started() / ring_.frame_count() < opened_rounds_[ring_.next_frame()]) {
    ring_.start();
  }
}

std::span<const index_t> ReceiveChannel::progress() {
  const auto arrived = ring_.test();
  start_open();
  return arrived;
}

}  // namespace weir
