#pragma once

#include <cstddef>
#include <span>

#include "common/number/tensor.hpp"

namespace weir::worker {

/// sum[i] = parts[first][i] + parts[first + 1][i] + …, round the ring, added up from the left in
/// f32 and rounded to the dtype once. `parts` hold elements of sum's dtype, one run of its size
/// each.
void ring_sum(std::span<const std::span<const std::byte>> parts, index_t first, Vector sum);

}  // namespace weir::worker
