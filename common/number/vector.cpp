#include "common/number/vector.hpp"

#include <cstddef>

#define HWY_TARGET_INCLUDE "common/number/vector.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Doubles = hn::ScalableTag<double>;
using Floats = hn::Rebind<float, Doubles>;  // equally many, in half a register

constexpr std::size_t kAccumulators = 16;
constexpr std::size_t kLanes = hn::MaxLanes(Doubles());
static_assert(kAccumulators % kLanes == 0);

/// The number of elements that pass through registers at a time: enough to hide the loop over the
/// parts.
constexpr std::size_t kGroup = 2 * kAccumulators;

/// As add_parts; writes nothing if there are no parts.
double add_parts(float* sum, std::size_t size, const float* const* parts, std::size_t part_count) {
  const Doubles doubles;
  const Floats floats;
  hn::Vec<Doubles> squares[kAccumulators / kLanes];
  for (auto& each : squares) each = hn::Zero(doubles);
  std::size_t i = 0;
  for (; i + kGroup <= size; i += kGroup) {
    hn::Vec<Floats> group[kGroup / kLanes];
    for (std::size_t v = 0; v < kGroup / kLanes; ++v) {
      group[v] = hn::LoadU(floats, sum + i + v * kLanes);
    }
    for (std::size_t part = 0; part < part_count; ++part) {
      const float* const from = parts[part] + i;
      for (std::size_t v = 0; v < kGroup / kLanes; ++v) {
        group[v] = hn::Add(group[v], hn::LoadU(floats, from + v * kLanes));
      }
    }
    if (part_count > 0) {
      for (std::size_t v = 0; v < kGroup / kLanes; ++v) {
        hn::StoreU(group[v], floats, sum + i + v * kLanes);
      }
    }
    for (std::size_t v = 0; v < kGroup / kLanes; ++v) {
      const auto exact = hn::PromoteTo(doubles, group[v]);
      auto& to = squares[v % (kAccumulators / kLanes)];
      to = hn::MulAdd(exact, exact, to);  // fused or not: the product is exact
    }
  }
  double accumulators[kAccumulators];
  for (std::size_t v = 0; v < kAccumulators / kLanes; ++v) {
    hn::StoreU(squares[v], doubles, accumulators + v * kLanes);
  }
  for (; i < size; ++i) {
    float value = sum[i];
    for (std::size_t part = 0; part < part_count; ++part) value += parts[part][i];
    if (part_count > 0) sum[i] = value;
    accumulators[i % kAccumulators] += static_cast<double>(value) * static_cast<double>(value);
  }
  for (std::size_t half = kAccumulators / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) accumulators[lane] += accumulators[lane + half];
  }
  return accumulators[0];
}

}  // namespace
}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {

HWY_EXPORT(add_parts);

double add_parts(std::span<float> sum, std::span<const float* const> parts) {
  return HWY_DYNAMIC_DISPATCH(add_parts)(sum.data(), sum.size(), parts.data(), parts.size());
}

double square_sum(std::span<const float> values) {
  // Without parts nothing is written.
  float* const data = const_cast<float*>(values.data());
  return HWY_DYNAMIC_DISPATCH(add_parts)(data, values.size(), nullptr, 0);
}

}  // namespace weir
#endif  // HWY_ONCE
