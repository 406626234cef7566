#pragma once

#include <bit>
#include <cstdint>

#include "common/number/dtype.hpp"

namespace weir {

/// Single elements from f32 to the low types and back: the same bits on every machine.

namespace rounding {

/// A choice by masks: of a ?: with arithmetic on one side GCC makes a branch, and no vector.
inline std::uint32_t choose(bool condition, std::uint32_t yes, std::uint32_t no) {
  const std::uint32_t mask = 0U - static_cast<std::uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}
inline constexpr std::uint32_t kMagnitude = 0x7fffffff;
inline constexpr std::uint32_t kInfinity = 0x7f800000;

}  // namespace rounding

inline float float_of(float value) { return value; }
inline float float_of(Bf16 value) { return std::bit_cast<float>(std::uint32_t{value.bits} << 16); }
inline float float_of(Fp16 value) {
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  const std::uint32_t normal = (magnitude << 13) + (112u << 23);
  // The hidden bit that a subnormal lacks is added and taken away again: exact.
  const float subnormal = std::bit_cast<float>((magnitude << 13) + (113u << 23)) - 0x1p-14F;
  const std::uint32_t finite =
      rounding::choose(magnitude < 0x400, std::bit_cast<std::uint32_t>(subnormal), normal);
  const std::uint32_t all =
      rounding::choose(magnitude >= 0x7c00, normal | rounding::kInfinity, finite);
  return std::bit_cast<float>(all | (std::uint32_t{value.bits} & 0x8000u) << 16);
}

/// The nearest T, of two the even one, subnormals included; infinity beyond the largest one. NaN
/// stays NaN.
template <class T>
T rounded_to(float value) = delete;
template <>
inline float rounded_to<float>(float value) {
  return value;
}
template <>
inline Bf16 rounded_to<Bf16>(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  // A NaN could round to infinity, or lose its payload: it becomes a quiet one.
  const std::uint32_t quiet = bits | 0x400000;
  const bool is_nan = (bits & rounding::kMagnitude) > rounding::kInfinity;
  return {static_cast<std::uint16_t>(rounding::choose(is_nan, quiet, rounded) >> 16)};
}
template <>
inline Fp16 rounded_to<Fp16>(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & rounding::kMagnitude;
  // Normal: the exponent's bias goes from 127 to 15, 13 bits of the mantissa are rounded away.
  const std::uint32_t normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
  // Subnormal: in [0.5, 1) the last bit of an f32 is worth 2^-24, as that of a subnormal half is.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) -
      std::bit_cast<std::uint32_t>(0.5F);
  const std::uint32_t finite = rounding::choose(magnitude < (113u << 23), subnormal, normal);
  // 65520 and above round to infinity.
  const std::uint32_t large = rounding::choose(magnitude > rounding::kInfinity, 0x7e00, 0x7c00);
  const std::uint32_t half = rounding::choose(magnitude >= 0x477ff000, large, finite);
  return {static_cast<std::uint16_t>(half | ((bits >> 16) & 0x8000))};
}

}  // namespace weir
