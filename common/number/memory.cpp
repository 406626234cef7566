#include "common/number/memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "common/base/error.hpp"
#include "common/number/huge_page.hpp"

namespace weir {
namespace {

constexpr index_t kCacheLine = 64;

/// Maps memory at huge pages and touches all of it, so that no later access has to.
std::byte* map_huge(index_t bytes) {
  std::byte* const data = map_at_huge_page(bytes, PROT_READ | PROT_WRITE);
  if (data == nullptr) return nullptr;
  // Where the kernel has no huge pages this fails and the memory is merely slower.
  madvise(data, bytes, MADV_HUGEPAGE);
  for (index_t offset = 0; offset < bytes; offset += kPageBytes) {
    reinterpret_cast<volatile char*>(data)[offset] = 0;
  }
  return data;
}

std::byte* allocate_small(index_t bytes) {
  const std::size_t rounded = round_up(bytes, kCacheLine);
  void* const data = std::aligned_alloc(kCacheLine, rounded);
  if (data != nullptr) std::memset(data, 0, rounded);
  return static_cast<std::byte*>(data);
}

}  // namespace

Memory::Memory(index_t elements, index_t element_bytes, MemoryKind kind) : kind_(kind) {
  WEIR_ASSERT(elements >= 0 && element_bytes > 0);
  if (elements == 0) return;
  if (kind == MemoryKind::none) {
    bytes_ = elements * element_bytes;
    return;
  }
  constexpr index_t kAddressSpace = index_t{1} << 47;
  if (elements <= kAddressSpace / element_bytes) {
    bytes_ = elements * element_bytes;
    data_ = bytes_ >= kHugePage ? map_huge(round_up(bytes_, kHugePage)) : allocate_small(bytes_);
  }
  if (data_ == nullptr) {
    throw Error(text("cannot allocate ", elements, " elements of ", element_bytes,
                     " bytes; take a smaller model, batch or length, or more ranks or servers"));
  }
}

index_t Memory::huge_bytes() const {
  if (bytes_ < kHugePage || data_ == nullptr) return 0;
  // Lines like "7f0c00000000-7f0c00400000 rw-p …", each followed by "AnonHugePages:   4096 kB" and
  // others. A mapping of the kernel's may hold several of ours.
  const auto address = reinterpret_cast<std::uintptr_t>(data_);
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::istringstream words(line);
    if (words >> std::hex >> begin >> dash >> end && dash == '-') {
      inside = begin <= address && address < end;
      continue;
    }
    constexpr std::string_view kKey = "AnonHugePages:";
    if (inside && line.starts_with(kKey)) {
      return std::min<index_t>(std::stoll(line.substr(kKey.size())) * 1024, bytes_);
    }
  }
  return 0;
}

Memory::~Memory() {
  if (data_ == nullptr) return;
  if (bytes_ >= kHugePage) {
    munmap(data_, round_up(bytes_, kHugePage));
  } else {
    std::free(data_);
  }
}

}  // namespace weir
