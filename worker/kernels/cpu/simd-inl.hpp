// Vector helpers, compiled once for each instruction set: include after hwy/foreach_target.h,
// inside no namespace. Everything lives in HWY_NAMESPACE.

// Highway's own toggle, so that each target includes this file once.
#if defined(WEIR_WORKER_KERNELS_CPU_SIMD_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_WORKER_KERNELS_CPU_SIMD_INL_HPP
#undef WEIR_WORKER_KERNELS_CPU_SIMD_INL_HPP
#else
#define WEIR_WORKER_KERNELS_CPU_SIMD_INL_HPP
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "common/base/index.hpp"
#include "common/number/rounding.hpp"
#include "worker/kernels/cpu/by_dtype.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using V = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr index_t kLanes = static_cast<index_t>(hn::MaxLanes(Floats()));

HWY_INLINE V set(float value) { return hn::Set(kFloats, value); }

// --- elements of a low type: in memory 16 bits each, in registers always floats
using Halves = hn::Rebind<std::uint16_t, Floats>;
using Integers = hn::RebindToSigned<Floats>;
using Bits = hn::Vec<Integers>;
constexpr Halves kHalves;
constexpr Integers kIntegers;

HWY_INLINE Bits word(std::int32_t value) { return hn::Set(kIntegers, value); }
HWY_INLINE Bits load_halves(const std::uint16_t* from) {
  return hn::PromoteTo(kIntegers, hn::LoadU(kHalves, from));
}
/// Each word is below 2^16.
HWY_INLINE void store_halves(Bits words, std::uint16_t* to) {
  hn::StoreU(hn::DemoteTo(kHalves, words), kHalves, to);
}

HWY_INLINE V load(const float* from) { return hn::LoadU(kFloats, from); }
HWY_INLINE void store(V value, float* to) { hn::StoreU(value, kFloats, to); }

HWY_INLINE V load(const Bf16* from) {
  return hn::BitCast(kFloats, hn::ShiftLeft<16>(load_halves(&from->bits)));
}
/// The same bits as rounded_to. Highway 1.0.3 cuts the lower half off instead of rounding, and the
/// processor's own instruction takes subnormal numbers for 0.
HWY_INLINE void store(V value, Bf16* to) {
  const hn::RebindToUnsigned<Floats> words;
  const auto bits = hn::BitCast(words, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(words, 0x7fff)));
  const auto quiet = hn::Or(bits, hn::Set(words, 0x400000));
  const auto is_nan = hn::RebindMask(words, hn::IsNaN(value));
  const auto result = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded));
  store_halves(hn::BitCast(kIntegers, result), &to->bits);
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
// These processors convert, and round as rounded_to does.
HWY_INLINE V load(const Fp16* from) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  return hn::PromoteTo(kFloats, hn::BitCast(halves, hn::LoadU(kHalves, &from->bits)));
}
HWY_INLINE void store(V value, Fp16* to) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  hn::StoreU(hn::BitCast(kHalves, hn::DemoteTo(halves, value)), kHalves, &to->bits);
}
#else
// As float_of and rounded_to do it (common/number/rounding.hpp, which says why), in vectors.
HWY_INLINE V load(const Fp16* from) {
  const Bits half = load_halves(&from->bits);
  const Bits magnitude = hn::And(half, word(0x7fff));
  const Bits shifted = hn::ShiftLeft<13>(magnitude);
  const Bits normal = hn::Add(shifted, word(112 << 23));
  const V subnormal =
      hn::Sub(hn::BitCast(kFloats, hn::Add(shifted, word(113 << 23))), set(0x1p-14F));
  const Bits finite =
      hn::IfThenElse(hn::Lt(magnitude, word(0x400)), hn::BitCast(kIntegers, subnormal), normal);
  const Bits all =
      hn::IfThenElse(hn::Gt(magnitude, word(0x7bff)), hn::Or(normal, word(0x7f800000)), finite);
  const Bits sign = hn::ShiftLeft<16>(hn::And(half, word(0x8000)));
  return hn::BitCast(kFloats, hn::Or(all, sign));
}
HWY_INLINE void store(V value, Fp16* to) {
  const Bits bits = hn::BitCast(kIntegers, value);
  const Bits magnitude = hn::And(bits, word(0x7fffffff));
  const Bits odd = hn::And(hn::ShiftRight<13>(magnitude), word(1));
  const Bits normal =
      hn::ShiftRight<13>(hn::Add(magnitude, hn::Add(odd, word(0xfff - (112 << 23)))));
  const V above_half = hn::Add(hn::BitCast(kFloats, magnitude), set(0.5F));
  const Bits subnormal = hn::Sub(hn::BitCast(kIntegers, above_half), word(0x3f000000));
  const Bits finite = hn::IfThenElse(hn::Lt(magnitude, word(113 << 23)), subnormal, normal);
  const Bits large =
      hn::IfThenElse(hn::Gt(magnitude, word(0x7f800000)), word(0x7e00), word(0x7c00));
  const Bits half = hn::IfThenElse(hn::Lt(magnitude, word(0x477ff000)), finite, large);
  const Bits sign = hn::And(hn::ShiftRight<16>(bits), word(0x8000));
  store_halves(hn::Or(half, sign), &to->bits);
}
#endif

/// Loads the first `count` elements, 1 to kLanes, and zeros behind them; reads nothing further.
template <class T>
HWY_INLINE V load_up_to(const T* from, index_t count) {
  if (kLanes == 1 || count == kLanes) return load(from);
  HWY_ALIGN T lanes[kLanes] = {};
  std::copy_n(from, count, lanes);
  return load(lanes);
}
/// Writes the first `count` elements, 1 to kLanes, and nothing further.
template <class T>
HWY_INLINE void store_up_to(V value, T* to, index_t count) {
  if (kLanes == 1 || count == kLanes) return store(value, to);
  HWY_ALIGN T lanes[kLanes];
  store(value, lanes);
  std::copy_n(lanes, count, to);
}

/// to[i] = function(from[i]...), each of its own type. The tail goes through the same instructions,
/// so an element's result does not depend on where a vector begins.
template <class To, class Function, class... From>
HWY_INLINE void map(index_t size, To* to, const Function& function, const From*... from) {
  index_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(function(load(from + i)...), to + i);
  if (i < size) store_up_to(function(load_up_to(from + i, size - i)...), to + i, size - i);
}

/// The sum of function(from[i]...) over i: four running vectors, then their lanes, an order that
/// only `size` decides.
template <class Function, class... From>
HWY_INLINE float map_sum(index_t size, const Function& function, const From*... from) {
  V sum[4] = {set(0), set(0), set(0), set(0)};
  index_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    sum[0] = hn::Add(sum[0], function(load(from + i)...));
    sum[1] = hn::Add(sum[1], function(load(from + i + kLanes)...));
    sum[2] = hn::Add(sum[2], function(load(from + i + 2 * kLanes)...));
    sum[3] = hn::Add(sum[3], function(load(from + i + 3 * kLanes)...));
  }
  for (; i + kLanes <= size; i += kLanes) sum[0] = hn::Add(sum[0], function(load(from + i)...));
  if (i < size) {
    const V tail = function(load_up_to(from + i, size - i)...);
    const auto valid = hn::FirstN(kFloats, size - i);
    sum[1] = hn::Add(sum[1], hn::IfThenElseZero(valid, tail));
  }
  const V all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  return hn::GetLane(hn::SumOfLanes(kFloats, all));
}

/// The larger one, NaN if either is (the processor's own maximum may drop it).
HWY_INLINE V max_or_nan(V a, V b) {
  return hn::IfThenElse(hn::Or(hn::Gt(b, a), hn::IsNaN(b)), b, a);
}

/// The largest element; -inf if there is none, NaN if one is NaN.
template <class T>
HWY_INLINE float largest(const T* from, index_t size) {
  V lanes_largest = set(-std::numeric_limits<float>::infinity());
  index_t i = 0;
  for (; i + kLanes <= size; i += kLanes) lanes_largest = max_or_nan(lanes_largest, load(from + i));
  HWY_ALIGN float lanes[kLanes];
  hn::Store(lanes_largest, kFloats, lanes);
  float result = -std::numeric_limits<float>::infinity();
  const auto take = [&result](float value) {
    if (value > result || value != value) result = value;
  };
  for (const float lane : lanes) take(lane);
  for (; i < size; ++i) take(float_of(from[i]));
  return result;
}

/// exp(x) to about 1 unit in the last place; 0 below -87.3, at x > 88 the value for 88, NaN for
/// NaN. Highway 1.0.3's own Exp gives 0 for NaN. 2^n e^r with |r| <= ln 2 / 2 and the Taylor series
/// of e^r as far as r^7, whose rest is below 6e-9.
HWY_INLINE V exponential(V x) {
  const hn::RebindToSigned<Floats> integers;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const V shift = set(0x1.8p23F);
  const V above = set(88.0F);
  x = hn::IfThenElse(hn::Gt(x, above), above, x);
  const V shifted = hn::MulAdd(x, set(0x1.715476p+0F), shift);  // log2 e
  const V n = hn::Sub(shifted, shift);
  V r = hn::NegMulAdd(n, set(0x1.62e4p-1F), x);  // ln 2 in two parts, n * the first is exact
  r = hn::NegMulAdd(n, set(0x1.7f7d1cp-20F), r);
  V power = set(1.0F / 5040);
  power = hn::MulAdd(power, r, set(1.0F / 720));
  power = hn::MulAdd(power, r, set(1.0F / 120));
  power = hn::MulAdd(power, r, set(1.0F / 24));
  power = hn::MulAdd(power, r, set(1.0F / 6));
  power = hn::MulAdd(power, r, set(0.5F));
  power = hn::MulAdd(power, r, set(1.0F));
  power = hn::MulAdd(power, r, set(1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(integers, shifted));
  const V scale = hn::BitCast(kFloats, hn::Add(exponent, hn::Set(integers, 127 << 23)));
  return hn::IfThenZeroElse(hn::Lt(x, set(-87.3F)), hn::Mul(power, scale));
}

}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
