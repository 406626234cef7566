#include "common/number/huge_page.hpp"

#include <sys/mman.h>

#include <cstdint>

#include "common/base/error.hpp"

namespace weir {

std::byte* map_at_huge_page(index_t bytes, int protection) {
  WEIR_ASSERT(bytes > 0 && bytes % kHugePage == 0);
  // Maps one huge page more than needed and gives back both ends.
  const index_t mapped = bytes + kHugePage;
  void* const begin = mmap(nullptr, mapped, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) return nullptr;
  const auto address = static_cast<index_t>(reinterpret_cast<std::uintptr_t>(begin));
  const index_t before = round_up(address, kHugePage) - address;
  auto* const first = static_cast<std::byte*>(begin);
  std::byte* const data = first + before;
  if (before > 0) munmap(first, before);
  munmap(data + bytes, mapped - before - bytes);
  return data;
}

}  // namespace weir
