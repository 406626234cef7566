#pragma once

#include <span>

namespace weir {

/// sum[i] += parts[0][i], then parts[1][i] and so on, and returns square_sum(sum) of what came out:
/// one pass over memory for all of it. Parts have at least the size of `sum` and do not overlap it;
/// there may be none. Each addition is rounded to float by itself.
double add_parts(std::span<float> sum, std::span<const float* const> parts);

/// The sum of the squares in double. Element i goes to accumulator i mod 16, and the sixteen are
/// added by halves: the same bits on every machine, for every alignment and every vector width.
/// Squares of floats are exact in double, so only the additions round.
double square_sum(std::span<const float> values);

}  // namespace weir
