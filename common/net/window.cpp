#include "common/net/window.hpp"

#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <new>
#include <optional>

#include "common/net/agree.hpp"

namespace weir {
namespace {

constexpr const char* kFolder = "/dev/shm";  // where Open MPI keeps windows
constexpr index_t kMebi = index_t{1} << 20;
constexpr const char* kWayOut =
    "; make /dev/shm larger (docker: --shm-size), or take --transport messages";

index_t page_bytes() { return sysconf(_SC_PAGESIZE); }

/// Why `bytes` more do not fit, if they do not.
std::optional<Error> shortage(index_t bytes) {
  struct statvfs found {};
  if (statvfs(kFolder, &found) != 0 || access(kFolder, W_OK) != 0) {
    return Error(text("a window needs ", kFolder, ": ", std::strerror(errno),
                      "; take --transport messages"));
  }
  const auto free_bytes = static_cast<index_t>(found.f_bavail * found.f_frsize);
  if (bytes <= free_bytes) return std::nullopt;
  return Error(text("a window of ", bytes / kMebi + 1, " MiB does not fit into ", kFolder,
                    ", which has ", free_bytes / kMebi, " MiB left", kWayOut));
}

/// Makes the pages exist, zeroed. Why not, if not.
std::optional<Error> populate(std::span<std::byte> part) {
  if (part.empty()) return std::nullopt;
  if (madvise(part.data(), part.size(), MADV_POPULATE_WRITE) != 0) {
    // EINVAL: a kernel before 5.14. Then the check of the free space has to do.
    if (errno != EINVAL) {
      return Error(text("cannot fill a window of ", part.size() >> 20, " MiB in ", kFolder, ": ",
                        std::strerror(errno), kWayOut));
    }
  }
  std::memset(part.data(), 0, part.size());
  return std::nullopt;
}

}  // namespace

void WindowTraits::release(Raw raw) {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (std::uncaught_exceptions() == 0 && !finalized) MPI_Win_free(&raw);
}

SharedWindow::SharedWindow(const Comm& host, index_t bytes) {
  WEIR_ASSERT(bytes >= 0);
  // Open MPI aligns nothing: a page more to round up in, and whole pages so that they stay apart.
  const index_t page = page_bytes();
  const index_t mapped = (bytes + page - 1) / page * page + page;
  const index_t all = host.sum(mapped);
  agree(host, host.rank() == 0 ? shortage(all) : std::nullopt);

  MPI_Win raw = MPI_WIN_NULL;
  void* own = nullptr;
  check_mpi(MPI_Win_allocate_shared(mapped, 1, MPI_INFO_NULL, host.raw(), &own, &raw),
            "allocating a window of the host");
  handle_ = Handle<WindowTraits>(raw);
  std::vector<index_t> sizes(static_cast<std::size_t>(host.size()), 0);
  sizes[static_cast<std::size_t>(host.rank())] = bytes;
  host.sum(sizes);
  for (int rank = 0; rank < host.size(); ++rank) {
    MPI_Aint size = 0;
    int unit = 0;
    void* begin = nullptr;
    check_mpi(MPI_Win_shared_query(raw, rank, &size, &unit, &begin),
              "asking for a part of a window");
    // Every rank has mapped the same file from a page's begin, so all round up by as much.
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    const auto mask = static_cast<std::uintptr_t>(page - 1);
    auto* const first = static_cast<std::byte*>(begin) + (((address + mask) & ~mask) - address);
    parts_.emplace_back(first, static_cast<std::size_t>(sizes[static_cast<std::size_t>(rank)]));
  }
  agree(host, populate(part(host.rank())));
}

WindowSender::WindowSender(WindowLine& line, std::vector<std::span<const std::byte>> frames,
                           std::vector<std::span<std::byte>> copies)
    : line_(&line), frames_(std::move(frames)), copies_(std::move(copies)) {
  WEIR_ASSERT(!frames_.empty() && copies_.size() == frames_.size());
}

void WindowSender::offer(index_t frame) {
  const auto at = static_cast<std::size_t>(frame);
  WEIR_ASSERT(at == offered_ % frame_count());
  if (!copies_[at].empty()) {
    std::memcpy(copies_[at].data(), frames_[at].data(), copies_[at].size());
  }
  line_->offered.store(++offered_, std::memory_order_release);
}

bool WindowSender::read_by_peer() const {
  const std::uint64_t round = offered_ / frame_count();
  return line_->opened.load(std::memory_order_acquire) < (round + 1) * frame_count();
}

WindowReceiver::WindowReceiver(WindowLine& line, index_t frame_count)
    : line_(&line), opened_rounds_(static_cast<std::size_t>(frame_count), 0) {
  WEIR_ASSERT(frame_count > 0);
}

void WindowReceiver::mark_open(index_t frame) {
  const auto at = static_cast<std::size_t>(frame);
  const std::uint64_t frames = opened_rounds_.size();
  const std::uint64_t arrived_rounds = arrived_ / frames + (at < arrived_ % frames ? 1 : 0);
  WEIR_ASSERT(opened_rounds_[at] == arrived_rounds);
  ++opened_rounds_[at];
  ++opened_;
}

void WindowReceiver::open(index_t frame) {
  mark_open(frame);
  line_->opened.store(opened_, std::memory_order_release);
}

void WindowReceiver::open_round() {
  for (std::size_t frame = 0; frame < opened_rounds_.size(); ++frame) {
    mark_open(static_cast<index_t>(frame));
  }
  line_->opened.store(opened_, std::memory_order_release);
}

std::span<const index_t> WindowReceiver::progress() {
  arrived_frames_.clear();
  const std::uint64_t offered = line_->offered.load(std::memory_order_acquire);
  const std::uint64_t frames = opened_rounds_.size();
  while (arrived_ < offered && arrived_ / frames < opened_rounds_[arrived_ % frames]) {
    arrived_frames_.push_back(static_cast<index_t>(arrived_ % frames));
    ++arrived_;
  }
  return arrived_frames_;
}

}  // namespace weir
