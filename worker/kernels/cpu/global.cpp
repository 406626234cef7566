#include <cblas.h>

#include <cmath>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/global.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

void scale_row(float* row, index_t size, float factor) {
  const V by = set(factor);
  map(
      size, row, [by](V v) HWY_ATTR { return hn::Mul(v, by); }, row);
}

/// One row of continue_softmax: `seen` of its columns count.
void continue_row(float* scores, index_t columns, index_t seen, float* maximum, float* sum,
                  float* weighted, index_t width) {
  std::fill(scores + seen, scores + columns, 0.0F);
  if (seen == 0) return;
  const float before = *maximum;
  const float run = largest(scores, seen);
  if (run > before || run != run) {
    *maximum = run;
    const float factor = std::exp(before - run);  // 0 at first
    *sum *= factor;
    scale_row(weighted, width, factor);
  }
  const V shift = set(*maximum);
  map(
      seen, scores, [shift](V v) HWY_ATTR { return exponential(hn::Sub(v, shift)); }, scores);
  *sum += map_sum(
      seen, [](V v) HWY_ATTR { return v; }, scores);
}

void slopes_row(float* scores, float* probability_gradients, index_t columns, index_t seen,
                float log_sum, float mean_product) {
  const V shift = set(log_sum);
  const V mean = set(mean_product);
  for (index_t c = 0; c < seen; c += kLanes) {
    const index_t count = std::min(kLanes, seen - c);
    const V probability = exponential(hn::Sub(load_up_to(scores + c, count), shift));
    const V gradient = load_up_to(probability_gradients + c, count);
    store_up_to(hn::Mul(probability, hn::Sub(gradient, mean)), scores + c, count);
    store_up_to(probability, probability_gradients + c, count);
  }
  std::fill(scores + seen, scores + columns, 0.0F);
  std::fill(probability_gradients + seen, probability_gradients + columns, 0.0F);
}

float product(const float* a, const float* b, index_t size) {
  return map_sum(
      size, [](V x, V y) HWY_ATTR { return hn::Mul(x, y); }, a, b);
}

/// to += from * factor.
void add_scaled(const float* from, index_t size, float factor, float* to) {
  const V by = set(factor);
  map(
      size, to, [by](V sum, V v) HWY_ATTR { return hn::MulAdd(v, by, sum); }, to, from);
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(scale_row);
HWY_EXPORT(continue_row);
HWY_EXPORT(slopes_row);
HWY_EXPORT(product);
HWY_EXPORT(add_scaled);

namespace {

/// Columns of a run that row `row` of `rows` sees; see Kernels::continue_softmax.
index_t seen_columns(std::span<const index_t> limits, index_t first, ConstMatrix scores,
                     index_t row) {
  const index_t rows_a_group = scores.extent(0) / std::ssize(limits);
  const index_t limit = limits[static_cast<std::size_t>(row / rows_a_group)];
  return std::clamp<index_t>(limit - first, 0, scores.extent(1));
}

/// One head of `folded` is a matrix whose rows lie heads * E apart, one head of `a` has rows
/// heads * C apart, and of `weights` it is C whole rows.
struct Heads {
  Heads(ConstMatrix a, ConstMatrix weights, ConstMatrix folded, index_t heads)
      : rows(static_cast<blasint>(a.extent(0))),
        channels(static_cast<blasint>(weights.extent(0) / heads)),
        width(static_cast<blasint>(weights.extent(1))),
        a_stride(static_cast<blasint>(weights.extent(0))),
        folded_stride(static_cast<blasint>(heads * weights.extent(1))) {
    WEIR_ASSERT(heads > 0 && weights.extent(0) % heads == 0 && a.extent(1) == weights.extent(0));
    WEIR_ASSERT(folded.extent(0) == a.extent(0) * heads && folded.extent(1) == weights.extent(1));
  }
  blasint rows, channels, width, a_stride, folded_stride;
};

}  // namespace

void CpuKernels::fold(ConstMatrix a, ConstMatrix weights, index_t heads, float scale,
                      Matrix folded) {
  const Heads h(a, weights, folded, heads);
  for (index_t head = 0; head < heads; ++head) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, h.rows, h.width, h.channels, scale,
                as<float>(a).data() + head * h.channels, h.a_stride,
                as<float>(weights).data() + head * h.channels * h.width, h.width, 0,
                as<float>(folded).data() + head * h.width, h.folded_stride);
  }
}

void CpuKernels::unfold(ConstMatrix folded, ConstMatrix weights, index_t heads, float scale,
                        Matrix out) {
  const Heads h(out, weights, folded, heads);
  for (index_t head = 0; head < heads; ++head) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, h.rows, h.channels, h.width, scale,
                as<float>(folded).data() + head * h.width, h.folded_stride,
                as<float>(weights).data() + head * h.channels * h.width, h.width, 0,
                as<float>(out).data() + head * h.channels, h.a_stride);
  }
}

void CpuKernels::add_fold_gradient(ConstMatrix a, ConstMatrix folded, index_t heads, float scale,
                                   Matrix weights_gradient) {
  const Heads h(a, weights_gradient, folded, heads);
  for (index_t head = 0; head < heads; ++head) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, h.channels, h.width, h.rows, scale,
                as<float>(a).data() + head * h.channels, h.a_stride,
                as<float>(folded).data() + head * h.width, h.folded_stride, 1,
                as<float>(weights_gradient).data() + head * h.channels * h.width, h.width);
  }
}

void CpuKernels::continue_softmax(std::span<const index_t> limits, index_t first, Matrix scores,
                                  Vector maximum, Vector sum, Matrix weighted) {
  const index_t rows = scores.extent(0);
  WEIR_ASSERT(!limits.empty() && rows % std::ssize(limits) == 0 && weighted.extent(0) == rows);
  WEIR_ASSERT(maximum.size() == rows && sum.size() == rows);
  progress();  // the products around it are too short for panels
  for (index_t r = 0; r < rows; ++r) {
    HWY_DYNAMIC_DISPATCH(continue_row)
    (as<float>(scores)[r].data(), scores.extent(1), seen_columns(limits, first, scores, r),
     as<float>(maximum).data() + r, as<float>(sum).data() + r, as<float>(weighted)[r].data(),
     weighted.extent(1));
  }
}

void CpuKernels::join_softmax(ConstVector parts, index_t count, Vector log_sum, Matrix mean) {
  const index_t rows = mean.extent(0);
  const index_t width = mean.extent(1);
  const index_t part = rows * (width + 2);
  WEIR_ASSERT(log_sum.size() == rows && parts.size() == count * part);
  const float* const all_parts = as<float>(parts).data();
  const View<float, 2> means = as<float>(mean);
  for (index_t r = 0; r < rows; ++r) {
    const auto maximum = [&](index_t p) { return all_parts[p * part + r]; };
    const auto sum = [&](index_t p) { return all_parts[p * part + rows + r]; };
    float greatest = -std::numeric_limits<float>::infinity();
    for (index_t p = 0; p < count; ++p) {
      if (maximum(p) > greatest || maximum(p) != maximum(p)) greatest = maximum(p);
    }
    // A part that has seen nothing has no say, nor may -inf meet -inf.
    const auto factor = [&](index_t p) {
      return sum(p) == 0 ? 0.0F : std::exp(maximum(p) - greatest);
    };
    float all = 0;
    for (index_t p = 0; p < count; ++p) all += factor(p) * sum(p);
    // -inf if nothing is seen.
    as<float>(log_sum)[static_cast<std::size_t>(r)] = greatest + std::log(all);
    fill(mean[r], 0);
    for (index_t p = 0; p < count && all != 0; ++p) {
      HWY_DYNAMIC_DISPATCH(add_scaled)
      (all_parts + p * part + 2 * rows + r * width, width, factor(p) / all, means[r].data());
    }
  }
}

void CpuKernels::softmax_slopes(std::span<const index_t> limits, index_t first, ConstVector log_sum,
                                ConstVector mean_product, Matrix scores,
                                Matrix probability_gradients) {
  const index_t rows = scores.extent(0);
  WEIR_ASSERT(!limits.empty() && rows % std::ssize(limits) == 0);
  WEIR_ASSERT(scores.has_shape_of(probability_gradients));
  WEIR_ASSERT(log_sum.size() == rows && mean_product.size() == rows);
  progress();
  for (index_t r = 0; r < rows; ++r) {
    const auto row = static_cast<std::size_t>(r);
    HWY_DYNAMIC_DISPATCH(slopes_row)
    (as<float>(scores)[r].data(), as<float>(probability_gradients)[r].data(), scores.extent(1),
     seen_columns(limits, first, scores, r), as<float>(log_sum)[row], as<float>(mean_product)[row]);
  }
}

void CpuKernels::row_products(ConstMatrix a, ConstMatrix b, Vector out) {
  WEIR_ASSERT(a.has_shape_of(b) && out.size() == a.extent(0));
  for (index_t r = 0; r < a.extent(0); ++r) {
    as<float>(out)[static_cast<std::size_t>(r)] =
        HWY_DYNAMIC_DISPATCH(product)(as<float>(a)[r].data(), as<float>(b)[r].data(), a.extent(1));
  }
}

void CpuKernels::scale_rows(ConstVector factors, Matrix rows) {
  WEIR_ASSERT(factors.size() == rows.extent(0));
  for (index_t r = 0; r < rows.extent(0); ++r) {
    HWY_DYNAMIC_DISPATCH(scale_row)
    (as<float>(rows)[r].data(), rows.extent(1), as<float>(factors)[static_cast<std::size_t>(r)]);
  }
}

}  // namespace weir::worker
#endif
