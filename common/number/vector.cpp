#include "common/number/vector.hpp"

#include <array>

#include "common/base/error.hpp"

namespace weir {

void add(std::span<float> sum, std::span<const float> part) {
  WEIR_ASSERT(sum.size() == part.size());
  float* const to = sum.data();
  const float* const from = part.data();
#pragma omp simd
  for (std::size_t i = 0; i < sum.size(); ++i) to[i] += from[i];
}

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

}  // namespace weir
