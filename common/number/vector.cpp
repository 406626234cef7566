#include "common/number/vector.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "common/base/error.hpp"

namespace weir {

void add(std::span<float> sum, std::span<const float> part) {
  WEIR_ASSERT(sum.size() == part.size());
  float* const to = sum.data();
  const float* const from = part.data();
#pragma omp simd
  for (std::size_t i = 0; i < sum.size(); ++i) to[i] += from[i];
}

void scale(std::span<float> values, float factor) {
#pragma omp simd
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= factor;
}

void fill(std::span<float> values, float value) { std::ranges::fill(values, value); }

double square_sum(std::span<const float> values) {
  constexpr std::size_t kLanes = 16;
  std::array<double, kLanes> sums{};
  const std::size_t whole = values.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  for (std::size_t i = whole; i < values.size(); ++i) {
    const double value = values[i];
    sums[i - whole] += value * value;
  }
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

bool all_finite(std::span<const float> values) {
  // All exponent bits set: infinity or NaN. Integers, since a comparison of floats may be folded.
  constexpr std::uint32_t kExponent = 0x7f800000;
  std::uint32_t found = 0;
#pragma omp simd reduction(| : found)
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(values[i]);
    found |= (bits & kExponent) == kExponent ? 1U : 0U;
  }
  return found == 0;
}

}  // namespace weir
