#pragma once

#include <cstdint>
#include <span>

#include "common/base/index.hpp"

namespace weir {

/// How many of `count` elements are kept: `percent` of them, rounded up; at least one if there is
/// any. 0 < percent <= 100.
index_t topk_kept(index_t count, double percent);

/// Moves the largest of values + residual out of it: with v = values + residual, the kept elements
/// are those of largest |v|, of equal ones those with the lower index. indices: ascending; kept:
/// their v. residual becomes v, and zero where v was taken. If any v is not finite, indices are the
/// first ones, kept is NaN, and the residual stays as it was. indices and kept have one size, which
/// is at most that of values and residual. The same on every machine.
/// Cost: three passes; a threshold guessed from a sample leaves few candidates to be ranked.
void take_topk(std::span<const float> values, std::span<float> residual,
               std::span<std::uint32_t> indices, std::span<float> kept);

}  // namespace weir
