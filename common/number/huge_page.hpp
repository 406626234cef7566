#pragma once

#include <cstddef>

#include "common/base/index.hpp"

namespace weir {

inline constexpr index_t kHugePage = index_t{2} << 20;

/// Anonymous memory of `bytes` bytes, whole huge pages, that begins at one: the kernel uses such
/// pages for nothing else. `protection` as for mmap; to be given back with munmap. Null, and errno,
/// if there is none.
std::byte* map_at_huge_page(index_t bytes, int protection);

}  // namespace weir
