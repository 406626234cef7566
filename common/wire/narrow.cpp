#include "common/wire/narrow.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "common/base/error.hpp"
#include "common/number/rounding.hpp"

namespace weir {
namespace {

// Compiled with -ffp-contract=off (CMakeLists.txt): a fused multiply-add on one machine alone would
// give other bits there.
#if defined(__x86_64__) && !defined(WEIR_SANITIZE)
#define WEIR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define WEIR_EACH_CPU
#endif

constexpr std::uint32_t kMagnitude = 0x7fffffff;

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

std::uint16_t bf16_of(float value) { return rounded_to<Bf16>(value).bits; }
float of_bf16(std::uint16_t half) { return float_of(Bf16{half}); }
std::uint16_t fp16_of(float value) { return rounded_to<Fp16>(value).bits; }
float of_fp16(std::uint16_t half) { return float_of(Fp16{half}); }

constexpr std::size_t kBlock = kInt8Block;

/// The scale of a block (the f32 value of one quantum) and the factor from values to quanta; 0, 0
/// if the block sends nothing.
struct Int8Scale {
  float scale = 0;
  float to_quanta = 0;
};

Int8Scale int8_scale(std::uint32_t magnitude) {
  constexpr float kSmallest = 0x1p-100F;  // far below, 127 / m would overflow
  const float m = std::bit_cast<float>(magnitude);
  return m < kSmallest ? Int8Scale() : Int8Scale{m / 127, 127 / m};
}

}  // namespace

WEIR_EACH_CPU void to_bf16(std::span<const float> values, std::span<std::uint16_t> halves) {
  WEIR_ASSERT(halves.size() == values.size());
  const float* const from = values.data();
  std::uint16_t* const to = halves.data();
#pragma omp simd
  for (std::size_t i = 0; i < values.size(); ++i) to[i] = bf16_of(from[i]);
}

WEIR_EACH_CPU void from_bf16(std::span<const std::uint16_t> halves, std::span<float> values) {
  WEIR_ASSERT(halves.size() == values.size());
  const std::uint16_t* const from = halves.data();
  float* const to = values.data();
#pragma omp simd
  for (std::size_t i = 0; i < values.size(); ++i) to[i] = of_bf16(from[i]);
}

WEIR_EACH_CPU void add_bf16(std::span<const std::uint16_t> halves, std::span<float> sum) {
  WEIR_ASSERT(halves.size() == sum.size());
  const std::uint16_t* const from = halves.data();
  float* const to = sum.data();
#pragma omp simd
  for (std::size_t i = 0; i < sum.size(); ++i) to[i] += of_bf16(from[i]);
}

WEIR_EACH_CPU void to_fp16(std::span<const float> values, float scale,
                           std::span<std::uint16_t> halves) {
  WEIR_ASSERT(halves.size() == values.size());
  const float* const from = values.data();
  std::uint16_t* const to = halves.data();
#pragma omp simd
  for (std::size_t i = 0; i < values.size(); ++i) to[i] = fp16_of(from[i] * scale);
}

WEIR_EACH_CPU void from_fp16(std::span<const std::uint16_t> halves, float scale,
                             std::span<float> values) {
  WEIR_ASSERT(halves.size() == values.size());
  const std::uint16_t* const from = halves.data();
  float* const to = values.data();
#pragma omp simd
  for (std::size_t i = 0; i < values.size(); ++i) to[i] = of_fp16(from[i]) * scale;
}

WEIR_EACH_CPU void add_fp16(std::span<const std::uint16_t> halves, float scale,
                            std::span<float> sum) {
  WEIR_ASSERT(halves.size() == sum.size());
  const std::uint16_t* const from = halves.data();
  float* const to = sum.data();
#pragma omp simd
  for (std::size_t i = 0; i < sum.size(); ++i) to[i] += of_fp16(from[i]) * scale;
}

void round_to(std::span<const float> values, Vector to) {
  WEIR_ASSERT(to.size() == std::ssize(values));
  switch (to.dtype()) {
    case Dtype::f32:
      std::ranges::copy(values, as<float>(to).begin());
      return;
    case Dtype::bf16:
      return to_bf16(values, {&as<Bf16>(to).data()->bits, values.size()});
    case Dtype::fp16:
      return to_fp16(values, 1, {&as<Fp16>(to).data()->bits, values.size()});
    case Dtype::i32:
      break;
  }
  WEIR_UNREACHABLE();
}

WEIR_EACH_CPU void to_int8(std::span<const float> values, std::span<float> residual,
                           std::span<float> scales, std::span<std::int8_t> quanta) {
  WEIR_ASSERT(residual.size() == values.size() && quanta.size() == values.size());
  WEIR_ASSERT(scales.size() == (values.size() + kBlock - 1) / kBlock);
  // Adding this to a number below 2^22 rounds the number to an integer, in the last bits of the
  // mantissa.
  constexpr float kRounder = 0x1.8p23F;
  const std::uint32_t too_large = bits_of(0x1p127F);
  std::array<float, kBlock> sums;
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - begin);
    const float* const from = values.data() + begin;
    float* const rest = residual.data() + begin;
    std::int8_t* const to = quanta.data() + begin;
    std::uint32_t magnitude = 0;
#pragma omp simd reduction(max : magnitude)
    for (std::size_t i = 0; i < count; ++i) {
      sums[i] = from[i] + rest[i];
      magnitude = std::max(magnitude, bits_of(sums[i]) & kMagnitude);
    }
    if (magnitude >= too_large) {
      scales[begin / kBlock] = std::numeric_limits<float>::quiet_NaN();
      std::fill_n(to, count, std::int8_t{0});
      continue;
    }
    const Int8Scale by = int8_scale(magnitude);
    scales[begin / kBlock] = by.scale;
#pragma omp simd
    for (std::size_t i = 0; i < count; ++i) {
      const float rounded = sums[i] * by.to_quanta + kRounder;
      to[i] = static_cast<std::int8_t>(bits_of(rounded) - bits_of(kRounder));
      rest[i] = sums[i] - (rounded - kRounder) * by.scale;
    }
  }
}

WEIR_EACH_CPU void from_int8(std::span<const float> scales, std::span<const std::int8_t> quanta,
                             std::span<float> values) {
  WEIR_ASSERT(quanta.size() == values.size());
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - begin);
    const float scale = scales[begin / kBlock];
    const std::int8_t* const from = quanta.data() + begin;
    float* const to = values.data() + begin;
#pragma omp simd
    for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]) * scale;
  }
}

WEIR_EACH_CPU void add_int8(std::span<const float> scales, std::span<const std::int8_t> quanta,
                            std::span<float> sum) {
  WEIR_ASSERT(quanta.size() == sum.size());
  for (std::size_t begin = 0; begin < sum.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, sum.size() - begin);
    const float scale = scales[begin / kBlock];
    const std::int8_t* const from = quanta.data() + begin;
    float* const to = sum.data() + begin;
#pragma omp simd
    for (std::size_t i = 0; i < count; ++i) to[i] += static_cast<float>(from[i]) * scale;
  }
}

WEIR_EACH_CPU std::uint32_t largest_magnitude(std::span<const float> values) {
  const float* const from = values.data();
  std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::size_t i = 0; i < values.size(); ++i) {
    largest = std::max(largest, bits_of(from[i]) & kMagnitude);
  }
  return largest;
}

WEIR_EACH_CPU std::uint32_t largest_magnitude_of_sum(std::span<const float> left,
                                                     std::span<const float> right) {
  WEIR_ASSERT(left.size() == right.size());
  const float* const a = left.data();
  const float* const b = right.data();
  std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::size_t i = 0; i < left.size(); ++i) {
    largest = std::max(largest, bits_of(a[i] + b[i]) & kMagnitude);
  }
  return largest;
}

WEIR_EACH_CPU std::size_t find_magnitudes(std::span<const float> values, std::uint32_t least,
                                          std::span<std::uint32_t> indices) {
  WEIR_ASSERT(indices.size() >= values.size());
  const float* const from = values.data();
  constexpr std::size_t kRun = 16;  // most have none, where few are looked for: tested as a whole
  std::size_t found = 0;
  for (std::size_t begin = 0; begin < values.size(); begin += kRun) {
    const std::size_t end = std::min(begin + kRun, values.size());
    std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (std::size_t i = begin; i < end; ++i) {
      largest = std::max(largest, bits_of(from[i]) & kMagnitude);
    }
    if (largest < least) continue;
    for (std::size_t i = begin; i < end; ++i) {
      indices[found] = static_cast<std::uint32_t>(i);
      found += (bits_of(from[i]) & kMagnitude) >= least ? 1 : 0;
    }
  }
  return found;
}

}  // namespace weir
