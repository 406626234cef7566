#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/list.hpp"
#include "common/net/channel.hpp"
#include "common/net/mpi.hpp"

namespace weir {

/// Memory that all ranks of one host see: each brings a part. Whoever writes says so through a
/// WindowLine.
///
/// A part is a file without a name (memfd), which the others open through /proc: nothing is left
/// behind whatever kills the ranks, and the size of /dev/shm, 64 MiB in many containers, is no
/// limit. It lies on huge pages where the kernel has MADV_COLLAPSE (Linux 6.1), which needs no
/// setting of the administrator.
class SharedWindow {
 public:
  /// Collective over `host`, whose ranks all share one host's memory. Each rank brings `bytes` >= 0
  /// of zeros that begin at a page. All of it is there when this returns. Throws AgreedError if the
  /// ranks cannot see each other's memory or there is not enough.
  SharedWindow(const Comm& host, index_t bytes);
  SharedWindow(const SharedWindow&) = delete;
  SharedWindow& operator=(const SharedWindow&) = delete;
  ~SharedWindow();

  /// The part of rank `rank` of the host; its address differs from rank to rank.
  std::span<std::byte> part(int rank) const { return parts_[rank]; }
  /// All of this rank's part.
  bool on_huge_pages() const { return on_huge_pages_; }

 private:
  void unmap();

  List<std::span<std::byte>> parts_;
  bool on_huge_pages_ = false;
};

/// What the ends of one direction between two ranks tell each other, in memory that both see and
/// that is zero at first. A cache line each, since each is written by another rank.
struct WindowLine {
  alignas(64) std::atomic<index_t> offered;  ///< frames so far, by the sender
  alignas(64) std::atomic<index_t> opened;   ///< frames so far, by the receiver
};
static_assert(std::atomic<index_t>::is_always_lock_free, "two processes share no locks");

/// Sends frames through a window: they are read where they lie, or where they are copied to. What
/// was written before offer() is visible once WindowReceiver::progress() has returned the frame.
class WindowSender final : public FrameSender {
 public:
  /// copies[i]: where frame i goes when it is offered; empty if it already lies in the window, or
  /// if another sender copies it. As large as its frame.
  WindowSender(WindowLine& line, List<std::span<const std::byte>> frames,
               List<std::span<std::byte>> copies);

  void offer(index_t frame) override;
  bool progress() override { return false; }
  bool sent(index_t) const override { return true; }
  bool idle() const override { return true; }
  /// True until every frame of the last round is opened again.
  bool read_by_peer() const override;

 private:
  index_t frame_count() const { return frames_.size(); }

  WindowLine* line_;
  List<std::span<const std::byte>> frames_;
  List<std::span<std::byte>> copies_;
  index_t offered_ = 0;
};

/// The other end. Frames do not move: open() only tells the sender that they may be written.
class WindowReceiver final : public FrameReceiver {
 public:
  WindowReceiver(WindowLine& line, index_t frame_count);

  void open(index_t frame) override;
  void open_round() override;
  std::span<const index_t> progress() override;

 private:
  void mark_open(index_t frame);

  WindowLine* line_;
  List<index_t> opened_rounds_;  ///< one count a frame
  index_t opened_ = 0;
  index_t arrived_ = 0;
  List<index_t> arrived_frames_;
};

}  // namespace weir
