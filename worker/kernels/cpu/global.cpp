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

using Limits = std::span<const index_t>;

/// Columns of a run that row `row` sees; see Kernels::continue_softmax.
index_t seen_columns(Limits limits, index_t first, ConstMatrix scores, index_t row) {
  const index_t rows_a_group = scores.extent(0) / std::ssize(limits);
  const index_t limit = limits[row / rows_a_group];
  return std::clamp<index_t>(limit - first, 0, scores.extent(1));
}

template <class T>
void scale_row(T* row, index_t size, float factor) {
  const V by = set(factor);
  map(
      size, row, [by](V v) HWY_ATTR { return hn::Mul(v, by); }, row);
}

/// One row of continue_softmax, of which `seen` columns count.
template <class T>
void continue_row(T* scores, index_t columns, index_t seen, float* maximum, float* sum,
                  float* weighted, index_t width) {
  std::fill(scores + seen, scores + columns, T{});
  if (seen == 0) return;
  const float before = *maximum;
  const float run = largest(scores, seen);
  if (run > before || run != run) {
    *maximum = run;
    const float factor = std::exp(before - run);  // 0 for the first run
    *sum *= factor;
    scale_row(weighted, width, factor);
  }
  const V shift = set(*maximum);
  map(
      seen, scores, [shift](V v) HWY_ATTR { return exponential(hn::Sub(v, shift)); }, scores);
  *sum += map_sum(
      seen, [](V v) HWY_ATTR { return v; }, scores);
}

void continue_softmax(Limits limits, index_t first, Matrix scores, Vector maximum, Vector sum,
                      Matrix weighted) {
  by_dtype(scores.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < scores.extent(0); ++r) {
      continue_row(as<T>(scores)[r].data(), scores.extent(1),
                   seen_columns(limits, first, scores, r), as<float>(maximum).data() + r,
                   as<float>(sum).data() + r, as<float>(weighted)[r].data(), weighted.extent(1));
    }
  });
}

template <class T>
void slopes_row(T* scores, T* probability_gradients, index_t columns, index_t seen, float log_sum,
                float mean_product) {
  const V shift = set(log_sum);
  const V mean = set(mean_product);
  for (index_t c = 0; c < seen; c += kLanes) {
    const index_t count = std::min(kLanes, seen - c);
    const V probability = exponential(hn::Sub(load_up_to(scores + c, count), shift));
    const V gradient = load_up_to(probability_gradients + c, count);
    store_up_to(hn::Mul(probability, hn::Sub(gradient, mean)), scores + c, count);
    store_up_to(probability, probability_gradients + c, count);
  }
  std::fill(scores + seen, scores + columns, T{});
  std::fill(probability_gradients + seen, probability_gradients + columns, T{});
}

void softmax_slopes(Limits limits, index_t first, ConstVector log_sum, ConstVector mean_product,
                    Matrix scores, Matrix probability_gradients) {
  by_dtype(scores.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < scores.extent(0); ++r) {
      slopes_row(as<T>(scores)[r].data(), as<T>(probability_gradients)[r].data(), scores.extent(1),
                 seen_columns(limits, first, scores, r), as<float>(log_sum)[r],
                 as<float>(mean_product)[r]);
    }
  });
}

void row_products(ConstMatrix a, ConstMatrix b, Vector out) {
  const auto product = [](V x, V y) HWY_ATTR { return hn::Mul(x, y); };
  by_dtype(a.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < a.extent(0); ++r) {
      as<float>(out)[r] = map_sum(a.extent(1), product, as<T>(a)[r].data(), as<T>(b)[r].data());
    }
  });
}

void scale_rows(ConstVector factors, Matrix rows) {
  by_dtype(rows.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < rows.extent(0); ++r) {
      scale_row(as<T>(rows)[r].data(), rows.extent(1), float_of(as<T>(factors)[r]));
    }
  });
}

/// to = the sum over parts of factors[p] times the row `parts` + p * part, in this order.
void join_rows(const float* parts, index_t part, std::span<const float> factors, Vector to) {
  by_dtype(to.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t c = 0; c < to.size(); c += kLanes) {
      const index_t count = std::min(kLanes, to.size() - c);
      V sum = set(0);
      for (std::size_t p = 0; p < factors.size(); ++p) {
        const float* const row = parts + static_cast<index_t>(p) * part + c;
        sum = hn::MulAdd(load_up_to(row, count), set(factors[p]), sum);
      }
      store_up_to(sum, as<T>(to).data() + c, count);
    }
  });
}

// Folds of low types, whose products OpenBLAS does not make. They read each weight once a row: a
// fold has few rows, and the weights fit into the second cache.

void fold_low(ConstMatrix a, ConstMatrix weights, index_t heads, float scale, Matrix folded) {
  const index_t channels = weights.extent(0) / heads;
  const index_t width = weights.extent(1);
  by_dtype(a.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t row = 0; row < folded.extent(0); ++row) {
      const index_t first = row % heads * channels;
      const T* const factors = as<T>(a)[row / heads].data() + first;
      const T* const from = as<T>(weights).data() + first * width;
      for (index_t e = 0; e < width; e += kLanes) {
        const index_t count = std::min(kLanes, width - e);
        V sum = set(0);
        for (index_t c = 0; c < channels; ++c) {
          const V weight = load_up_to(from + c * width + e, count);
          sum = hn::MulAdd(set(float_of(factors[c])), weight, sum);
        }
        store_up_to(hn::Mul(sum, set(scale)), as<T>(folded)[row].data() + e, count);
      }
    }
  });
}

void unfold_low(ConstMatrix folded, ConstMatrix weights, index_t heads, float scale, Matrix out) {
  const index_t channels = weights.extent(0) / heads;
  const auto product = [](V x, V y) HWY_ATTR { return hn::Mul(x, y); };
  by_dtype(out.dtype(), [&]<class T>() HWY_ATTR {
    by_dtype_or_f32<T>(folded.dtype(), [&]<class F>() HWY_ATTR {
      for (index_t r = 0; r < out.extent(0); ++r) {
        for (index_t column = 0; column < out.extent(1); ++column) {
          const F* const row = as<F>(folded)[r * heads + column / channels].data();
          const float sum = map_sum(weights.extent(1), product, as<T>(weights)[column].data(), row);
          as<T>(out)(r, column) = rounded_to<T>(scale * sum);
        }
      }
    });
  });
}

void add_fold_gradient_low(ConstMatrix a, ConstMatrix folded, index_t heads, float scale,
                           Matrix weights_gradient) {
  const index_t channels = a.extent(1) / heads;
  const index_t width = folded.extent(1);
  by_dtype(a.dtype(), [&]<class T>() HWY_ATTR {
    by_dtype_or_f32<T>(folded.dtype(), [&]<class F>() HWY_ATTR {
      for (index_t column = 0; column < a.extent(1); ++column) {
        float* const to = as<float>(weights_gradient)[column].data();
        for (index_t e = 0; e < width; e += kLanes) {
          const index_t count = std::min(kLanes, width - e);
          V sum = set(0);
          for (index_t r = 0; r < a.extent(0); ++r) {
            const F* const row = as<F>(folded)[r * heads + column / channels].data();
            sum = hn::MulAdd(set(float_of(as<T>(a)(r, column))), load_up_to(row + e, count), sum);
          }
          store_up_to(hn::MulAdd(sum, set(scale), load_up_to(to + e, count)), to + e, count);
        }
      }
    });
  });
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(continue_softmax);
HWY_EXPORT(softmax_slopes);
HWY_EXPORT(row_products);
HWY_EXPORT(scale_rows);
HWY_EXPORT(join_rows);
HWY_EXPORT(fold_low);
HWY_EXPORT(unfold_low);
HWY_EXPORT(add_fold_gradient_low);

namespace {

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
  if (a.dtype() != Dtype::f32) {
    return HWY_DYNAMIC_DISPATCH(fold_low)(a, weights, heads, scale, folded);
  }
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
  if (out.dtype() != Dtype::f32) {
    return HWY_DYNAMIC_DISPATCH(unfold_low)(folded, weights, heads, scale, out);
  }
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
  if (a.dtype() != Dtype::f32) {
    return HWY_DYNAMIC_DISPATCH(add_fold_gradient_low)(a, folded, heads, scale, weights_gradient);
  }
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
  HWY_DYNAMIC_DISPATCH(continue_softmax)(limits, first, scores, maximum, sum, weighted);
}

void CpuKernels::join_softmax(ConstVector parts, index_t count, Vector log_sum, Matrix mean) {
  const index_t rows = mean.extent(0);
  const index_t width = mean.extent(1);
  const index_t part = rows * (width + 2);
  WEIR_ASSERT(log_sum.size() == rows && parts.size() == count * part);
  const float* const all_parts = as<float>(parts).data();
  std::vector<float> factors;
  for (index_t r = 0; r < rows; ++r) {
    const auto maximum = [&](index_t p) { return all_parts[p * part + r]; };
    const auto sum = [&](index_t p) { return all_parts[p * part + rows + r]; };
    float greatest = -std::numeric_limits<float>::infinity();
    for (index_t p = 0; p < count; ++p) {
      if (maximum(p) > greatest || maximum(p) != maximum(p)) greatest = maximum(p);
    }
    // A part that has seen nothing is left out: its maximum is -inf, and -inf - -inf is NaN.
    const auto factor = [&](index_t p) {
      return sum(p) == 0 ? 0.0F : std::exp(maximum(p) - greatest);
    };
    float all = 0;
    for (index_t p = 0; p < count; ++p) all += factor(p) * sum(p);
    // -inf if nothing is seen.
    as<float>(log_sum)[r] = greatest + std::log(all);
    factors.clear();
    for (index_t p = 0; p < count && all != 0; ++p) factors.push_back(factor(p) / all);
    HWY_DYNAMIC_DISPATCH(join_rows)
    (all_parts + 2 * rows + r * width, part, factors, mean[r]);
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
  HWY_DYNAMIC_DISPATCH(softmax_slopes)
  (limits, first, log_sum, mean_product, scores, probability_gradients);
}

void CpuKernels::row_products(ConstMatrix a, ConstMatrix b, Vector out) {
  WEIR_ASSERT(a.has_shape_of(b) && out.size() == a.extent(0));
  HWY_DYNAMIC_DISPATCH(row_products)(a, b, out);
}

void CpuKernels::scale_rows(ConstVector factors, Matrix rows) {
  WEIR_ASSERT(factors.size() == rows.extent(0));
  HWY_DYNAMIC_DISPATCH(scale_rows)(factors, rows);
}

}  // namespace weir::worker
#endif
