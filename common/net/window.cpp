#include "common/net/window.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/net/agree.hpp"
#include "common/number/huge_page.hpp"

namespace weir {
namespace {

constexpr index_t kMebi = index_t{1} << 20;
#ifdef MADV_COLLAPSE
constexpr int kCollapse = MADV_COLLAPSE;
#else
constexpr int kCollapse = 25;  // a kernel that does not know it says so
#endif

[[noreturn]] void fail(index_t bytes, const std::string& what) {
  throw Error(text("a window of ", bytes / kMebi, " MiB for the ranks of this host: ", what,
                   "; take --transport messages"));
}

struct FileTraits {
  using Raw = int;
  static Raw none() { return -1; }
  static void release(Raw raw) { close(raw); }
};
using OpenFile = Handle<FileTraits>;

/// What a rank tells the others of its part.
struct Part {
  index_t bytes = 0;
  index_t process = 0;
  index_t file = 0;
  index_t inode = 0;  ///< unlike the process, it means the same in another container
};

/// What each rank says of its part, in the order of ranks.
List<Part> exchange_parts(const Comm& host, const Part& own) {
  List<index_t> numbers(4 * host.size());
  auto* const mine = &numbers[4 * host.rank()];
  std::ranges::copy(std::array{own.bytes, own.process, own.file, own.inode}, mine);
  host.sum(numbers);
  List<Part> parts;
  for (index_t at = 0; at < numbers.size(); at += 4) {
    parts.push_back({numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]});
  }
  return parts;
}

index_t inode_of(int file) {
  struct stat found {};
  return fstat(file, &found) == 0 ? found.st_ino : 0;
}

OpenFile make_file(index_t bytes) {
  OpenFile file(memfd_create("weir", MFD_CLOEXEC));
  if (!file) fail(bytes, text("memfd_create: ", std::strerror(errno)));
  if (ftruncate(file.get(), round_up(bytes, kHugePage)) != 0) fail(bytes, std::strerror(errno));
  return file;
}

OpenFile open_file(const Part& part) {
  const std::string name = text("/proc/", part.process, "/fd/", part.file);
  OpenFile file(open(name.c_str(), O_RDWR | O_CLOEXEC));
  if (!file) fail(part.bytes, text("cannot open ", name, " of another: ", std::strerror(errno)));
  if (inode_of(file.get()) != part.inode) {
    fail(part.bytes, text("process ", part.process,
                          " is another one here (are the ranks in "
                          "containers of their own?)"));
  }
  return file;
}

/// Parts are mapped at a huge page's begin: else the kernel could not use such pages.
std::span<std::byte> map(const OpenFile& file, index_t bytes) {
  const index_t size = round_up(bytes, kHugePage);
  std::byte* const data = map_at_huge_page(size, PROT_NONE);
  if (data == nullptr) fail(bytes, text("cannot map it: ", std::strerror(errno)));
  if (mmap(data, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.get(), 0) ==
      MAP_FAILED) {
    const int error = errno;
    munmap(data, size);
    fail(bytes, text("cannot map it: ", std::strerror(error)));
  }
  return {data, static_cast<std::size_t>(bytes)};
}

/// Makes the pages exist, zeroed.
void populate(std::span<std::byte> part) {
  if (part.empty()) return;
  if (madvise(part.data(), part.size(), MADV_POPULATE_WRITE) == 0) return;
  // EINVAL comes from a kernel before 5.14, where pages must be touched instead.
  if (errno != EINVAL) fail(std::ssize(part), text("cannot fill it: ", std::strerror(errno)));
  std::memset(part.data(), 0, part.size());
}

/// Makes huge pages exist, zeroed; false where the kernel does not. It makes them around what is
/// there. One small page each is enough: more would only be copied.
bool populate_huge(std::span<std::byte> part) {
  const index_t bytes = round_up(std::ssize(part), kHugePage);
  for (index_t begin = 0; begin < bytes; begin += kHugePage) {
    if (madvise(part.data() + begin, kPageBytes, MADV_POPULATE_WRITE) != 0) return false;
  }
  return part.empty() || madvise(part.data(), bytes, kCollapse) == 0;
}

}  // namespace

SharedWindow::SharedWindow(const Comm& host, index_t bytes) {
  WEIR_ASSERT(bytes >= 0);
  const index_t self = host.rank();
  OpenFile own;
  Part told;
  agree(host, error_of([&] {
          if (bytes == 0) return;
          own = make_file(bytes);
          told = {bytes, getpid(), own.get(), inode_of(own.get())};
        }));
  const List<Part> all = exchange_parts(host, told);
  try {
    agree(host, error_of([&] {
            for (index_t rank = 0; rank < all.size(); ++rank) {
              const Part& part = all[rank];
              if (part.bytes == 0) {
                parts_.emplace_back();
              } else if (rank == self) {
                parts_.push_back(map(own, part.bytes));
              } else {
                parts_.push_back(map(open_file(part), part.bytes));
              }
            }
          }));
    agree(host, error_of([&] {
            on_huge_pages_ = populate_huge(part(host.rank()));
            if (!on_huge_pages_) populate(part(host.rank()));
          }));
  } catch (...) {
    unmap();
    throw;
  }
}

SharedWindow::~SharedWindow() { unmap(); }

void SharedWindow::unmap() {
  for (const std::span<std::byte> part : parts_) {
    if (!part.empty()) {
      munmap(part.data(), round_up(std::ssize(part), kHugePage));
    }
  }
  parts_.clear();
}

WindowSender::WindowSender(WindowLine& line, List<std::span<const std::byte>> frames,
                           List<std::span<std::byte>> copies)
    : line_(&line), frames_(std::move(frames)), copies_(std::move(copies)) {
  WEIR_ASSERT(!frames_.empty() && copies_.size() == frames_.size());
}

void WindowSender::offer(index_t frame) {
  WEIR_ASSERT(frame == offered_ % frame_count());
  if (!copies_[frame].empty()) {
    std::memcpy(copies_[frame].data(), frames_[frame].data(), copies_[frame].size());
  }
  line_->offered.store(++offered_, std::memory_order_release);
}

bool WindowSender::read_by_peer() const {
  const index_t round = offered_ / frame_count();
  return line_->opened.load(std::memory_order_acquire) < (round + 1) * frame_count();
}

WindowReceiver::WindowReceiver(WindowLine& line, index_t frame_count)
    : line_(&line), opened_rounds_(frame_count, 0) {
  WEIR_ASSERT(frame_count > 0);
}

void WindowReceiver::mark_open(index_t frame) {
  const index_t frames = opened_rounds_.size();
  const index_t arrived_rounds = arrived_ / frames + (frame < arrived_ % frames ? 1 : 0);
  WEIR_ASSERT(opened_rounds_[frame] == arrived_rounds);
  ++opened_rounds_[frame];
  ++opened_;
}

void WindowReceiver::open(index_t frame) {
  mark_open(frame);
  line_->opened.store(opened_, std::memory_order_release);
}

void WindowReceiver::open_round() {
  for (index_t frame = 0; frame < opened_rounds_.size(); ++frame) mark_open(frame);
  line_->opened.store(opened_, std::memory_order_release);
}

std::span<const index_t> WindowReceiver::progress() {
  arrived_frames_.clear();
  const index_t offered = line_->offered.load(std::memory_order_acquire);
  const index_t frames = opened_rounds_.size();
  while (arrived_ < offered && arrived_ / frames < opened_rounds_[arrived_ % frames]) {
    arrived_frames_.push_back(arrived_ % frames);
    ++arrived_;
  }
  return arrived_frames_;
}

}  // namespace weir
