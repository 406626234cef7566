#pragma once

#include <cstdint>
#include <string>

#include "common/base/error.hpp"
#include "common/base/index.hpp"

namespace weir {

/// What the elements of a tensor are.
enum class Dtype {
  f32,
  bf16,  ///< the upper half of an f32: its range with 8 bits of precision
  fp16,  ///< IEEE half precision: 11 bits, largest number 65504, smallest normal one 2^-14
  i32,   ///< whole numbers: tokens, classes
};

inline index_t bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
    case Dtype::i32:
      return 4;
    case Dtype::bf16:
    case Dtype::fp16:
      return 2;
  }
  WEIR_UNREACHABLE();
}

inline std::string name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return "f32";
    case Dtype::bf16:
      return "bf16";
    case Dtype::fp16:
      return "fp16";
    case Dtype::i32:
      return "i32";
  }
  WEIR_UNREACHABLE();
}

/// An element of type bf16, to be stored and copied; number/rounding.hpp converts.
struct Bf16 {
  std::uint16_t bits = 0;
};
/// The same of type fp16.
struct Fp16 {
  std::uint16_t bits = 0;
};

/// The Dtype of elements of the C++ type T.
template <class T>
inline constexpr bool kHasDtype = false;
template <class T>
inline constexpr Dtype kDtypeOf = Dtype::f32;

template <>
inline constexpr bool kHasDtype<float> = true;
template <>
inline constexpr bool kHasDtype<Bf16> = true;
template <>
inline constexpr bool kHasDtype<Fp16> = true;
template <>
inline constexpr Dtype kDtypeOf<Bf16> = Dtype::bf16;
template <>
inline constexpr Dtype kDtypeOf<Fp16> = Dtype::fp16;
template <>
inline constexpr bool kHasDtype<std::int32_t> = true;
template <>
inline constexpr Dtype kDtypeOf<std::int32_t> = Dtype::i32;

}  // namespace weir
