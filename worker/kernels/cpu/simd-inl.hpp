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

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using V = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr index_t kLanes = static_cast<index_t>(hn::MaxLanes(Floats()));

HWY_INLINE V set(float value) { return hn::Set(kFloats, value); }
HWY_INLINE V load(const float* from) { return hn::LoadU(kFloats, from); }
HWY_INLINE void store(V value, float* to) { hn::StoreU(value, kFloats, to); }

/// The first `count` elements, at most kLanes, zeros behind them; reads nothing further.
HWY_INLINE V load_up_to(const float* from, index_t count) {
  if (count == kLanes) return load(from);
  HWY_ALIGN float lanes[kLanes] = {};
  std::copy_n(from, count, lanes);
  return hn::Load(kFloats, lanes);
}
/// Writes the first `count` elements, at most kLanes, and nothing further.
HWY_INLINE void store_up_to(V value, float* to, index_t count) {
  if (count == kLanes) return store(value, to);
  HWY_ALIGN float lanes[kLanes];
  hn::Store(value, kFloats, lanes);
  std::copy_n(lanes, count, to);
}

/// to[i] = function(from[i]...). The tail goes through the same instructions, so an element's
/// result does not depend on where a vector begins.
template <class Function, class... From>
HWY_INLINE void map(index_t size, float* to, const Function& function, const From*... from) {
  index_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(function(load(from + i)...), to + i);
  if (i < size) store_up_to(function(load_up_to(from + i, size - i)...), to + i, size - i);
}

/// Sum of function(from[i]...) over i. Four running vectors, then lanes: an order that `size` alone
/// decides.
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
    const auto valid = hn::FirstN(kFloats, static_cast<std::size_t>(size - i));
    sum[1] = hn::Add(sum[1], hn::IfThenElseZero(valid, tail));
  }
  const V all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  return hn::GetLane(hn::SumOfLanes(kFloats, all));
}

/// The larger one, NaN if either is (the processor's own maximum may drop it).
HWY_INLINE V max_or_nan(V a, V b) {
  return hn::IfThenElse(hn::Or(hn::Gt(b, a), hn::IsNaN(b)), b, a);
}

/// The largest element, -inf of none, NaN if there is one.
inline float largest(const float* from, index_t size) {
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
  for (; i < size; ++i) take(from[i]);
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
