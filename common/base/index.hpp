#pragma once

#include <cstdint>

namespace weir {

/// Every extent, offset and count of elements or bytes.
using index_t = std::int64_t;

/// The least multiple of `multiple` > 0 that is at least `count` >= 0.
constexpr index_t round_up(index_t count, index_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

/// The smallest page of any machine. What travels begins at one: whole pages need no extra ones.
inline constexpr index_t kPageBytes = 4096;

}  // namespace weir
