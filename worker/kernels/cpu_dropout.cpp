#include <algorithm>

#include "common/base/error.hpp"
#include "common/number/random.hpp"
#include "worker/kernels/cpu.hpp"
#include "worker/kernels/cpu_simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu_dropout.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu_simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

void drop(const float* uniform, float rate, index_t size, float* values) {
  const V least = set(rate);
  const V scale = set(1 / (1 - rate));
  const auto function = [=](V draw, V value) HWY_ATTR {
    return hn::IfThenElseZero(hn::Ge(draw, least), hn::Mul(value, scale));
  };
  map(size, values, function, uniform, values);
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(drop);

void CpuKernels::dropout(const DropoutKey& key, Matrix values) {
  if (key.rate == 0) return;
  WEIR_ASSERT(0 < key.rate && key.rate < 1);
  WEIR_ASSERT(values.extent(0) == std::ssize(key.samples) * key.tokens_a_sample);
  WEIR_ASSERT(0 <= key.first_feature && key.first_feature + values.extent(1) <= key.width);
  constexpr index_t kBlock = 1024;
  float uniform[kBlock];
  for (index_t r = 0; r < values.extent(0); ++r) {
    const index_t sample = key.samples[static_cast<std::size_t>(r / key.tokens_a_sample)];
    const std::uint64_t stream = dropout_stream(key, sample);
    const index_t token = r % key.tokens_a_sample;
    for (index_t c = 0; c < values.extent(1); c += kBlock) {
      const index_t count = std::min(kBlock, values.extent(1) - c);
      const index_t first = token * key.width + key.first_feature + c;
      fill_uniform(std::span(uniform).first(static_cast<std::size_t>(count)), key.seed, stream,
                   static_cast<std::uint64_t>(first));
      HWY_DYNAMIC_DISPATCH(drop)(uniform, key.rate, count, &values(r, c));
    }
  }
}

}  // namespace weir::worker
#endif
