#include <cmath>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/norm.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

/// The norm of one row, in two passes: the mean first, since E[x^2] - E[x]^2 loses everything when
/// the mean is large.
template <class T>
void norm_row(const T* x, const T* weight, const T* bias, index_t columns, T* out, float* mean,
              float* inverse_deviation) {
  constexpr auto kEpsilon = static_cast<float>(kNormEpsilon);
  const auto count = static_cast<float>(columns);
  *mean = map_sum(
              columns, [](V v) HWY_ATTR { return v; }, x) /
          count;
  const V center = set(*mean);
  const auto square = [center](V v) HWY_ATTR {
    const V distance = hn::Sub(v, center);
    return hn::Mul(distance, distance);
  };
  *inverse_deviation = 1 / std::sqrt(map_sum(columns, square, x) / count + kEpsilon);
  const V scale = set(*inverse_deviation);
  const auto affine = [center, scale](V v, V w, V b)
                          HWY_ATTR { return hn::MulAdd(hn::Mul(hn::Sub(v, center), scale), w, b); };
  map(columns, out, affine, x, weight, bias);
}

/// The gradient of one row. With n = (x - mean) / deviation and g = out_gradient * weight:
/// x_gradient += (g - mean(g) - n mean(g n)) / deviation.
template <class T>
void norm_row_backward(const T* x, const T* weight, float mean, float inverse_deviation,
                       const T* out_gradient, index_t columns, T* x_gradient,
                       float* weight_gradient, float* bias_gradient) {
  const auto count = static_cast<float>(columns);
  const V center = set(mean);
  const V scale = set(inverse_deviation);
  const auto product = [](V upstream, V w) HWY_ATTR { return hn::Mul(upstream, w); };
  const V mean_g = set(map_sum(columns, product, out_gradient, weight) / count);
  const auto projected = [center, scale](V upstream, V w, V v) HWY_ATTR {
    return hn::Mul(hn::Mul(upstream, w), hn::Mul(hn::Sub(v, center), scale));
  };
  const V mean_gn = set(map_sum(columns, projected, out_gradient, weight, x) / count);

  const auto to_input = [=](V sum, V upstream, V w, V v) HWY_ATTR {
    const V n = hn::Mul(hn::Sub(v, center), scale);
    const V centered = hn::Sub(hn::Mul(upstream, w), hn::MulAdd(n, mean_gn, mean_g));
    return hn::MulAdd(centered, scale, sum);
  };
  map(columns, x_gradient, to_input, x_gradient, out_gradient, weight, x);
  const auto to_weight = [=](V sum, V upstream, V v) HWY_ATTR {
    return hn::MulAdd(upstream, hn::Mul(hn::Sub(v, center), scale), sum);
  };
  map(columns, weight_gradient, to_weight, weight_gradient, out_gradient, x);
  map(
      columns, bias_gradient, [](V sum, V upstream) HWY_ATTR { return hn::Add(sum, upstream); },
      bias_gradient, out_gradient);
}

void layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out, Vector mean,
                Vector inverse_deviation) {
  by_dtype(x.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < x.extent(0); ++r) {
      norm_row(as<T>(x)[r].data(), as<T>(weight).data(), as<T>(bias).data(), x.extent(1),
               as<T>(out)[r].data(), as<float>(mean).data() + r,
               as<float>(inverse_deviation).data() + r);
    }
  });
}

void layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                         ConstVector inverse_deviation, ConstMatrix out_gradient, Matrix x_gradient,
                         Vector weight_gradient, Vector bias_gradient) {
  by_dtype(x.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < x.extent(0); ++r) {
      norm_row_backward(as<T>(x)[r].data(), as<T>(weight).data(), as<float>(mean)[r],
                        as<float>(inverse_deviation)[r], as<T>(out_gradient)[r].data(), x.extent(1),
                        as<T>(x_gradient)[r].data(), as<float>(weight_gradient).data(),
                        as<float>(bias_gradient).data());
    }
  });
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(layer_norm);
HWY_EXPORT(layer_norm_backward);

void CpuKernels::layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out,
                            Vector mean, Vector inverse_deviation) {
  const index_t columns = x.extent(1);
  WEIR_ASSERT(x.has_shape_of(out));
  WEIR_ASSERT(weight.size() == columns && bias.size() == columns);
  WEIR_ASSERT(mean.size() == x.extent(0) && inverse_deviation.size() == x.extent(0));
  HWY_DYNAMIC_DISPATCH(layer_norm)(x, weight, bias, out, mean, inverse_deviation);
}

void CpuKernels::layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                                     ConstVector inverse_deviation, ConstMatrix out_gradient,
                                     Matrix x_gradient, Vector weight_gradient,
                                     Vector bias_gradient) {
  const index_t columns = x.extent(1);
  WEIR_ASSERT(x.has_shape_of(out_gradient) && x.has_shape_of(x_gradient));
  WEIR_ASSERT(weight.size() == columns && weight_gradient.size() == columns &&
              bias_gradient.size() == columns);
  WEIR_ASSERT(mean.size() == x.extent(0) && inverse_deviation.size() == x.extent(0));
  HWY_DYNAMIC_DISPATCH(layer_norm_backward)
  (x, weight, mean, inverse_deviation, out_gradient, x_gradient, weight_gradient, bias_gradient);
}

}  // namespace weir::worker
#endif
