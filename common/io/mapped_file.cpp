#include "common/io/mapped_file.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <string>

#include "common/base/error.hpp"
#include "common/io/file.hpp"

namespace weir {

struct MappedFile::Mapping {
  Mapping(const fs::path& path, std::span<const std::byte> mapped);
  ~Mapping();

  const std::span<const std::byte> bytes;
  const std::string lost;  ///< what the handler prints; it may not build a text itself
  std::atomic<Mapping*> next = nullptr;
};

/// All mappings of the process, for the handler of SIGBUS, which can reach nothing else.
struct MappingList {
  static void insert(MappedFile::Mapping& mapping);
  static void remove(MappedFile::Mapping& mapping);
  static void on_bus_error(int number, siginfo_t* info, void* context);

 private:
  static inline std::atomic<MappedFile::Mapping*> first = nullptr;
  static inline std::mutex changing;
};

void MappingList::insert(MappedFile::Mapping& mapping) {
  const std::lock_guard lock(changing);
  if (first == nullptr) {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, nullptr);
  }
  mapping.next = first.load();
  first = &mapping;
}

void MappingList::remove(MappedFile::Mapping& mapping) {
  const std::lock_guard lock(changing);
  std::atomic<MappedFile::Mapping*>* link = &first;
  while (*link != &mapping) link = &link->load()->next;
  *link = mapping.next.load();
}

void MappingList::on_bus_error(int number, siginfo_t* info, void*) {
  const auto* const at = static_cast<const std::byte*>(info->si_addr);
  for (const MappedFile::Mapping* each = first; each != nullptr; each = each->next) {
    if (at < each->bytes.data() || each->bytes.data() + each->bytes.size() <= at) continue;
    [[maybe_unused]] const ssize_t written =
        write(STDERR_FILENO, each->lost.data(), each->lost.size());
    _exit(static_cast<int>(ExitCode::error));
  }
  std::signal(number, SIG_DFL);  // none of our mappings: the process ends as it would have
  std::raise(number);
}

MappedFile::Mapping::Mapping(const fs::path& path, std::span<const std::byte> mapped)
    : bytes(mapped),
      lost(text("weir: cannot read ", path.string(),
                ": it became shorter while it was in use, or its disk failed. Start again when "
                "nobody changes it any more\n")) {
  MappingList::insert(*this);
}

MappedFile::Mapping::~Mapping() {
  MappingList::remove(*this);
  munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
}

MappedFile::MappedFile(const fs::path& path) {
  const File file = File::open(path);
  const std::size_t size = file.size();
  if (size == 0) return;
  void* const begin = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (begin == MAP_FAILED) {
    throw Error(text("cannot map ", path.string(), ": ", std::strerror(errno)));
  }
  mapping_ = std::make_unique<Mapping>(path, std::span(static_cast<const std::byte*>(begin), size));
}

MappedFile::MappedFile(MappedFile&& other) noexcept = default;
MappedFile& MappedFile::operator=(MappedFile&& other) noexcept = default;
MappedFile::~MappedFile() = default;

std::span<const std::byte> MappedFile::bytes() const {
  return mapping_ ? mapping_->bytes : std::span<const std::byte>();
}

}  // namespace weir
