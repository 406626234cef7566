#include <limits>

#include "common/base/error.hpp"
#include "worker/kernels/cpu.hpp"
#include "worker/kernels/cpu_simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu_softmax.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu_simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

float exponential_sum(const float* row, index_t columns, float maximum) {
  const V shift = set(maximum);
  return map_sum(
      columns, [shift](V v) HWY_ATTR { return exponential(hn::Sub(v, shift)); }, row);
}

/// row[c] = exp(row[c] - maximum) * scale.
void scaled_exponentials(float* row, index_t columns, float maximum, float scale) {
  const V shift = set(maximum);
  const V factor = set(scale);
  const auto function = [=](V v)
                            HWY_ATTR { return hn::Mul(exponential(hn::Sub(v, shift)), factor); };
  map(columns, row, function, row);
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(largest);
HWY_EXPORT(exponential_sum);
HWY_EXPORT(scaled_exponentials);

void CpuKernels::row_maximum(ConstMatrix logits, Vector maximum) {
  WEIR_ASSERT(std::ssize(maximum) == logits.extent(0));
  for (index_t r = 0; r < logits.extent(0); ++r) {
    maximum[static_cast<std::size_t>(r)] =
        HWY_DYNAMIC_DISPATCH(largest)(logits[r].data(), logits.extent(1));
  }
}

void CpuKernels::softmax_sums(ConstMatrix logits, ConstVector maximum,
                              std::span<const std::int32_t> targets, index_t first_column,
                              Vector exponential_sum, Vector target_logit) {
  const index_t columns = logits.extent(1);
  WEIR_ASSERT(std::ssize(maximum) == logits.extent(0) && targets.size() == maximum.size());
  WEIR_ASSERT(exponential_sum.size() == maximum.size() && target_logit.size() == maximum.size());
  for (std::size_t r = 0; r < maximum.size(); ++r) {
    const auto row = logits[static_cast<index_t>(r)];
    exponential_sum[r] = HWY_DYNAMIC_DISPATCH(exponential_sum)(row.data(), columns, maximum[r]);
    const index_t column = targets[r] - first_column;
    const bool here = targets[r] >= 0 && 0 <= column && column < columns;
    target_logit[r] = here ? row(column) : 0;
  }
}

void CpuKernels::softmax_gradient(Matrix logits, ConstVector maximum, ConstVector exponential_sum,
                                  std::span<const std::int32_t> targets, index_t first_column,
                                  float scale) {
  const index_t columns = logits.extent(1);
  WEIR_ASSERT(std::ssize(maximum) == logits.extent(0) && targets.size() == maximum.size());
  WEIR_ASSERT(exponential_sum.size() == maximum.size());
  for (std::size_t r = 0; r < maximum.size(); ++r) {
    const auto row = logits[static_cast<index_t>(r)];
    if (targets[r] < 0) {
      fill(row.span(), 0);
      continue;
    }
    HWY_DYNAMIC_DISPATCH(scaled_exponentials)
    (row.data(), columns, maximum[r], scale / exponential_sum[r]);
    const index_t column = targets[r] - first_column;
    if (0 <= column && column < columns) row(column) -= scale;
  }
}

}  // namespace weir::worker
#endif
