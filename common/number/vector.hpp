#pragma once

#include <span>

namespace weir {

/// sum[i] += part[i]. The spans have one size and do not overlap.
void add(std::span<float> sum, std::span<const float> part);

/// The sum of the squares in double. Element i goes to accumulator i mod 16, and the sixteen are
/// added by halves: the same bits on every machine, for every alignment and every vector width.
/// Squares of floats are exact in double, so only the additions round.
double square_sum(std::span<const float> values);

}  // namespace weir
