#include <cmath>
#include <limits>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/softmax.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu/simd-inl.hpp"

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
  WEIR_ASSERT(maximum.size() == logits.extent(0));
  for (index_t r = 0; r < logits.extent(0); ++r) {
    as<float>(maximum)[static_cast<std::size_t>(r)] =
        HWY_DYNAMIC_DISPATCH(largest)(as<float>(logits)[r].data(), logits.extent(1));
  }
}

void CpuKernels::softmax_sums(ConstMatrix logits, ConstVector maximum,
                              std::span<const std::int32_t> targets, index_t first_column,
                              Vector exponential_sum, Vector target_logit) {
  const index_t columns = logits.extent(1);
  WEIR_ASSERT(maximum.size() == logits.extent(0) && std::ssize(targets) == maximum.size());
  WEIR_ASSERT(exponential_sum.size() == maximum.size() && target_logit.size() == maximum.size());
  const std::span<const float> highest = as<float>(maximum);
  const std::span<float> sums = as<float>(exponential_sum);
  const std::span<float> chosen = as<float>(target_logit);
  for (std::size_t r = 0; r < targets.size(); ++r) {
    const auto row = as<float>(logits)[static_cast<index_t>(r)];
    sums[r] = HWY_DYNAMIC_DISPATCH(exponential_sum)(row.data(), columns, highest[r]);
    const index_t column = targets[r] - first_column;
    const bool here = targets[r] >= 0 && 0 <= column && column < columns;
    chosen[r] = here ? row(column) : 0;
  }
}

Loss CpuKernels::cross_entropy(std::span<const std::int32_t> targets, ConstVector maximum,
                               ConstVector exponential_sum, ConstVector target_logit) {
  const std::span<const float> highest = as<float>(maximum);
  const std::span<const float> sums = as<float>(exponential_sum);
  const std::span<const float> chosen = as<float>(target_logit);
  WEIR_ASSERT(highest.size() == targets.size() && sums.size() == targets.size());
  WEIR_ASSERT(chosen.size() == targets.size());
  Loss loss;
  for (std::size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] < 0) continue;
    loss.sum += std::log(double{sums[row]}) + highest[row] - chosen[row];
    loss.count += 1;
    loss.correct += chosen[row] == highest[row] ? 1 : 0;
  }
  return loss;
}

void CpuKernels::softmax_gradient(Matrix logits, ConstVector maximum, ConstVector exponential_sum,
                                  std::span<const std::int32_t> targets, index_t first_column,
                                  float scale) {
  const index_t columns = logits.extent(1);
  WEIR_ASSERT(maximum.size() == logits.extent(0) && std::ssize(targets) == maximum.size());
  WEIR_ASSERT(exponential_sum.size() == maximum.size());
  for (std::size_t r = 0; r < targets.size(); ++r) {
    const auto row = as<float>(logits)[static_cast<index_t>(r)];
    if (targets[r] < 0) {
      fill(row.span(), 0);
      continue;
    }
    HWY_DYNAMIC_DISPATCH(scaled_exponentials)
    (row.data(), columns, as<float>(maximum)[r], scale / as<float>(exponential_sum)[r]);
    const index_t column = targets[r] - first_column;
    if (0 <= column && column < columns) row(column) -= scale;
  }
}

}  // namespace weir::worker
#endif
