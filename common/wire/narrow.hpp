#pragma once

#include <cstdint>
#include <span>

#include "common/base/index.hpp"
#include "common/number/tensor.hpp"

namespace weir {

/// Floats in fewer bits: what the wire formats (wire.hpp) are made of. The same bits on every
/// machine and for every vector width; spans have one size and do not overlap.

/// The upper half of an f32, rounded to nearest, ties to even; beyond the largest bf16 it becomes
/// infinity. NaN stays NaN.
void to_bf16(std::span<const float> values, std::span<std::uint16_t> halves);
void from_bf16(std::span<const std::uint16_t> halves, std::span<float> values);
void add_bf16(std::span<const std::uint16_t> halves, std::span<float> sum);

/// IEEE half precision of value * scale, rounded to nearest, ties to even, subnormals included;
/// infinity and NaN stay what they are. The caller chooses the scale.
void to_fp16(std::span<const float> values, float scale, std::span<std::uint16_t> halves);
/// half * scale
void from_fp16(std::span<const std::uint16_t> halves, float scale, std::span<float> values);
void add_fp16(std::span<const std::uint16_t> halves, float scale, std::span<float> sum);

/// to = values, each rounded to the nearest number that its dtype has (f32, bf16 or fp16), of two
/// the even one.
void round_to(std::span<const float> values, Vector to);

/// Elements that share a scale in int8: blocks counted from the span's begin, the last one shorter.
inline constexpr index_t kInt8Block = 256;

/// Each block: let v = values + residual and m = max |v|; then scale = m / 127, q = v / scale to
/// the nearest (|q| <= 127), residual = v - q * scale. A block whose m is below 2^-100 sends zeros
/// and keeps v. A block whose m is not finite, or 2^127 or more (where q * scale could overflow),
/// gets the scale NaN and keeps its residual as it was. scales: one a block.
void to_int8(std::span<const float> values, std::span<float> residual, std::span<float> scales,
             std::span<std::int8_t> quanta);
/// q * scale
void from_int8(std::span<const float> scales, std::span<const std::int8_t> quanta,
               std::span<float> values);
void add_int8(std::span<const float> scales, std::span<const std::int8_t> quanta,
              std::span<float> sum);

/// The largest magnitude as the bits of its f32 without sign: they order as the magnitudes do, with
/// infinity and then NaN above all (kNonFinite and more). 0 for none.
std::uint32_t largest_magnitude(std::span<const float> values);
/// The same of left + right.
std::uint32_t largest_magnitude_of_sum(std::span<const float> left, std::span<const float> right);
inline constexpr std::uint32_t kNonFinite = 0x7f800000;
/// The indices, ascending, of values of this magnitude or a larger one; returns how many there are.
/// indices: room for all of values; what lies behind the last one found is overwritten.
std::size_t find_magnitudes(std::span<const float> values, std::uint32_t least,
                            std::span<std::uint32_t> indices);

}  // namespace weir
