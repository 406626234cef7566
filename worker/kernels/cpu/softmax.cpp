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

using Targets = std::span<const std::int32_t>;

/// The column of a row's target, or -1 if it has none or another shard holds it.
index_t column_of(std::int32_t target, index_t first_column, index_t columns) {
  const index_t column = target - first_column;
  return target >= 0 && 0 <= column && column < columns ? column : -1;
}

void row_maximum(ConstMatrix logits, Vector maximum) {
  by_dtype(logits.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < logits.extent(0); ++r) {
      as<float>(maximum)[r] = largest(as<T>(logits)[r].data(), logits.extent(1));
    }
  });
}

template <class T>
float exponential_sum(const T* row, index_t columns, float maximum) {
  const V shift = set(maximum);
  return map_sum(
      columns, [shift](V v) HWY_ATTR { return exponential(hn::Sub(v, shift)); }, row);
}

void softmax_sums(ConstMatrix logits, ConstVector maximum, Targets targets, index_t first_column,
                  Vector sums, Vector target_logit) {
  by_dtype(logits.dtype(), [&]<class T>() HWY_ATTR {
    for (std::size_t r = 0; r < targets.size(); ++r) {
      const T* const row = as<T>(logits)[r].data();
      as<float>(sums)[r] = exponential_sum(row, logits.extent(1), as<float>(maximum)[r]);
      const index_t column = column_of(targets[r], first_column, logits.extent(1));
      as<float>(target_logit)[r] = column >= 0 ? float_of(row[column]) : 0;
    }
  });
}

/// One row that has a target: row[c] = exp(row[c] - maximum) * factor, less `scale` in the target's
/// column, if it is here.
template <class T>
void gradient_row(T* row, index_t columns, float maximum, float factor, index_t target,
                  float scale) {
  const V shift = set(maximum);
  const V by = set(factor);
  const auto function = [=](V v) HWY_ATTR { return hn::Mul(exponential(hn::Sub(v, shift)), by); };
  const float logit = target >= 0 ? float_of(row[target]) : 0;
  map(columns, row, function, row);
  if (target < 0) return;
  // Rounded to T before, a probability near 1 would lose how far from 1 it is.
  float probability = 0;
  map(1, &probability, function, &logit);
  row[target] = rounded_to<T>(probability - scale);
}

void softmax_gradient(Matrix logits, ConstVector maximum, ConstVector sums, Targets targets,
                      index_t first_column, float scale) {
  by_dtype(logits.dtype(), [&]<class T>() HWY_ATTR {
    for (std::size_t r = 0; r < targets.size(); ++r) {
      const auto row = as<T>(logits)[r];
      if (targets[r] < 0) {
        std::ranges::fill(row.span(), T{});
        continue;
      }
      gradient_row(row.data(), logits.extent(1), as<float>(maximum)[r], scale / as<float>(sums)[r],
                   column_of(targets[r], first_column, logits.extent(1)), scale);
    }
  });
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(row_maximum);
HWY_EXPORT(softmax_sums);
HWY_EXPORT(softmax_gradient);

void CpuKernels::row_maximum(ConstMatrix logits, Vector maximum) {
  WEIR_ASSERT(maximum.size() == logits.extent(0));
  HWY_DYNAMIC_DISPATCH(row_maximum)(logits, maximum);
}

void CpuKernels::softmax_sums(ConstMatrix logits, ConstVector maximum,
                              std::span<const std::int32_t> targets, index_t first_column,
                              Vector exponential_sum, Vector target_logit) {
  WEIR_ASSERT(maximum.size() == logits.extent(0) && std::ssize(targets) == maximum.size());
  WEIR_ASSERT(exponential_sum.size() == maximum.size() && target_logit.size() == maximum.size());
  HWY_DYNAMIC_DISPATCH(softmax_sums)
  (logits, maximum, targets, first_column, exponential_sum, target_logit);
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
  WEIR_ASSERT(maximum.size() == logits.extent(0) && std::ssize(targets) == maximum.size());
  WEIR_ASSERT(exponential_sum.size() == maximum.size());
  HWY_DYNAMIC_DISPATCH(softmax_gradient)
  (logits, maximum, exponential_sum, targets, first_column, scale);
}

}  // namespace weir::worker
#endif
