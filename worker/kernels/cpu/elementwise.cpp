#include <algorithm>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/convert.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

/// x Phi(x) = x sigmoid(2 u) with u = sqrt(2/pi) (x + 0.044715 x^3), as tanh(u) = 2 sigmoid(2u)
/// - 1.
struct Gelu {
  V x;        ///< clamped to +-12: from there on the sigmoid is 0 or 1, and x^2 stays finite
  V decay;    ///< exp(-2u)
  V sigmoid;  ///< 1 / (1 + exp(-2u))
};
constexpr float kTwoSqrtTwoOverPi = 1.5957691216057308F;
constexpr float kCubic = 0.044715F;

HWY_INLINE Gelu gelu_parts(V x) {
  const V limit = set(12.0F);
  x = hn::IfThenElse(hn::Gt(hn::Abs(x), limit), hn::CopySign(limit, x), x);
  const V cubic =
      hn::MulAdd(hn::Mul(x, x), set(kCubic * kTwoSqrtTwoOverPi), set(kTwoSqrtTwoOverPi));
  const V decay = exponential(hn::Neg(hn::Mul(x, cubic)));
  return {x, decay, hn::Div(set(1.0F), hn::Add(set(1.0F), decay))};
}

void gelu(ConstVector x, Vector out) {
  by_dtype(x.dtype(), [&]<class T>() HWY_ATTR {
    map(
        x.size(), as<T>(out).data(), [](V v) HWY_ATTR { return hn::Mul(v, gelu_parts(v).sigmoid); },
        as<T>(x).data());
  });
}

/// d/dx x sigmoid(2u) = s + x s (1 - s) 2u', and 1 - s = exp(-2u) s without cancellation.
template <class T>
void gelu_backward_elements(index_t size, T* x, T* gradient) {
  for (index_t i = 0; i < size; i += kLanes) {
    const index_t count = std::min(kLanes, size - i);
    const V v = load_up_to(x + i, count);
    const V upstream = load_up_to(gradient + i, count);
    const auto [clamped, decay, sigmoid] = gelu_parts(v);
    const V slope = hn::MulAdd(hn::Mul(clamped, clamped), set(3 * kCubic * kTwoSqrtTwoOverPi),
                               set(kTwoSqrtTwoOverPi));
    const V curve = hn::Mul(hn::Mul(clamped, slope), hn::Mul(sigmoid, hn::Mul(decay, sigmoid)));
    store_up_to(hn::Mul(upstream, hn::Add(sigmoid, curve)), gradient + i, count);
    store_up_to(hn::Mul(v, sigmoid), x + i, count);
  }
}

void gelu_backward(Vector x, Vector gradient) {
  by_dtype(x.dtype(), [&]<class T>() HWY_ATTR {
    gelu_backward_elements(x.size(), as<T>(x).data(), as<T>(gradient).data());
  });
}

template <class From, class To>
void add_elements(const From* from, index_t size, To* to) {
  map(
      size, to, [](V a, V b) HWY_ATTR { return hn::Add(a, b); }, to, from);
}

void add(ConstVector from, Vector to) {
  by_dtype(from.dtype(), [&]<class T>() HWY_ATTR {
    by_dtype_or_f32<T>(to.dtype(), [&]<class To>() HWY_ATTR {
      add_elements(as<T>(from).data(), from.size(), as<To>(to).data());
    });
  });
}

void add_bias(ConstVector bias, Matrix to) {
  by_dtype(to.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < to.extent(0); ++r) {
      add_elements(as<T>(bias).data(), bias.size(), as<T>(to)[r].data());
    }
  });
}

void convert_elements(ConstVector from, Vector to) {
  by_dtype(from.dtype(), [&]<class From>() HWY_ATTR {
    by_dtype(to.dtype(), [&]<class To>() HWY_ATTR {
      map(
          from.size(), as<To>(to).data(), [](V v) HWY_ATTR { return v; }, as<From>(from).data());
    });
  });
}

/// The columns of a block of rows first, then to memory once: fewer roundings of a long sum than
/// one by one, and an order that the shape alone decides. Row after row, since that is how memory
/// is read fastest; the sums of kColumns stay in the cache.
template <class T>
void add_columns(const T* a, index_t rows, index_t columns, float* out) {
  constexpr index_t kBlock = 64;
  constexpr index_t kColumns = 4096;
  HWY_ALIGN float sums[kColumns];
  const auto plus = [](V sum, V value) HWY_ATTR { return hn::Add(sum, value); };
  for (index_t begin = 0; begin < rows; begin += kBlock) {
    const index_t end = std::min(rows, begin + kBlock);
    for (index_t c = 0; c < columns; c += kColumns) {
      const index_t count = std::min(kColumns, columns - c);
      std::fill_n(sums, count, 0.0F);
      for (index_t r = begin; r < end; ++r) map(count, sums, plus, sums, a + r * columns + c);
      map(count, out + c, plus, out + c, sums);
    }
  }
}

void add_column_sums(ConstMatrix a, Vector out) {
  by_dtype(a.dtype(), [&]<class T>() HWY_ATTR {
    add_columns(as<T>(a).data(), a.extent(0), a.extent(1), as<float>(out).data());
  });
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(gelu);
HWY_EXPORT(gelu_backward);
HWY_EXPORT(add);
HWY_EXPORT(add_bias);
HWY_EXPORT(convert_elements);
HWY_EXPORT(add_column_sums);

void CpuKernels::gelu(ConstVector x, Vector out) {
  WEIR_ASSERT(x.size() == out.size());
  HWY_DYNAMIC_DISPATCH(gelu)(x, out);
}

void CpuKernels::gelu_backward(Vector x, Vector gradient) {
  WEIR_ASSERT(x.size() == gradient.size());
  HWY_DYNAMIC_DISPATCH(gelu_backward)(x, gradient);
}

void CpuKernels::add(ConstVector from, Vector to) {
  WEIR_ASSERT(from.size() == to.size());
  HWY_DYNAMIC_DISPATCH(add)(from, to);
}

void convert(ConstVector from, Vector to) {
  WEIR_ASSERT(from.size() == to.size());
  WEIR_ASSERT(from.kind() == MemoryKind::host && to.kind() == MemoryKind::host);
  if (from.dtype() == to.dtype()) {
    std::ranges::copy(from.bytes(), to.bytes().begin());
  } else {
    HWY_DYNAMIC_DISPATCH(convert_elements)(from, to);
  }
}

void CpuKernels::copy(ConstVector from, Vector to) { convert(from, to); }

void CpuKernels::fill(Vector to, float value) {
  by_dtype(to.dtype(), [&]<class T>() { std::ranges::fill(as<T>(to), rounded_to<T>(value)); });
}

void CpuKernels::add_bias(ConstVector bias, Matrix to) {
  WEIR_ASSERT(bias.size() == to.extent(1));
  HWY_DYNAMIC_DISPATCH(add_bias)(bias, to);
}

void CpuKernels::add_column_sums(ConstMatrix a, Vector out) {
  WEIR_ASSERT(out.size() == a.extent(1));
  HWY_DYNAMIC_DISPATCH(add_column_sums)(a, out);
}

}  // namespace weir::worker
#endif
