#include <algorithm>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/embedding.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

using Tokens = std::span<const std::int32_t>;

template <class From, class To>
void add_row(View<const From, 1> from, View<To, 1> to) {
  map(
      to.size(), to.data(), [](V a, V b) HWY_ATTR { return hn::Add(a, b); }, to.data(),
      from.data());
}

void gather(Tokens tokens, ConstMatrix table, index_t first_row, Matrix out) {
  by_dtype(out.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < out.extent(0); ++r) {
      const index_t row = tokens[r] - first_row;
      if (0 <= row && row < table.extent(0)) add_row(as<T>(table)[row], as<T>(out)[r]);
    }
  });
}

void scatter_add(Tokens tokens, ConstMatrix gradient, index_t first_row, Matrix table_gradient) {
  by_dtype(gradient.dtype(), [&]<class T>() HWY_ATTR {
    for (index_t r = 0; r < gradient.extent(0); ++r) {
      const index_t row = tokens[r] - first_row;
      if (0 <= row && row < table_gradient.extent(0)) {
        add_row(as<T>(gradient)[r], as<float>(table_gradient)[row]);
      }
    }
  });
}

/// to = from / by; from is f32 or of the dtype of `to`.
void divide(ConstVector from, float by, Vector to) {
  const V divisor = set(by);
  const auto quotient = [divisor](V v) HWY_ATTR { return hn::Div(v, divisor); };
  by_dtype(to.dtype(), [&]<class T>() HWY_ATTR {
    by_dtype_or_f32<T>(from.dtype(), [&]<class From>() HWY_ATTR {
      map(from.size(), as<T>(to).data(), quotient, as<From>(from).data());
    });
  });
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(gather);
HWY_EXPORT(scatter_add);
HWY_EXPORT(divide);

void CpuKernels::fill_rows(std::span<const index_t> rows, float value, Matrix to) {
  for (const index_t row : rows) {
    if (row >= 0) fill(to[row], value);
  }
}

void CpuKernels::gather_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                             Matrix to) {
  WEIR_ASSERT(std::ssize(rows) == to.extent(0) && column + to.extent(1) <= from.extent(1));
  for (index_t i = 0; i < to.extent(0); ++i) {
    const index_t row = rows[i];
    if (row < 0) {
      fill(to[i], 0);
    } else {
      copy(from[row].part(column, to.extent(1)), to[i]);
    }
  }
}

void CpuKernels::scatter_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                              bool accumulate, Matrix to) {
  WEIR_ASSERT(std::ssize(rows) == from.extent(0) && column + from.extent(1) <= to.extent(1));
  for (index_t i = 0; i < from.extent(0); ++i) {
    const index_t row = rows[i];
    if (row < 0) continue;
    const Vector part = to[row].part(column, from.extent(1));
    if (accumulate) {
      add(from[i], part);
    } else {
      copy(from[i], part);
    }
  }
}

void CpuKernels::gather(std::span<const std::int32_t> tokens, ConstMatrix table, index_t first_row,
                        Matrix out) {
  WEIR_ASSERT(std::ssize(tokens) == out.extent(0) && table.extent(1) == out.extent(1));
  HWY_DYNAMIC_DISPATCH(gather)(tokens, table, first_row, out);
}

void CpuKernels::scatter_add(std::span<const std::int32_t> tokens, ConstMatrix gradient,
                             index_t first_row, Matrix table_gradient) {
  WEIR_ASSERT(std::ssize(tokens) == gradient.extent(0));
  WEIR_ASSERT(gradient.extent(1) == table_gradient.extent(1));
  HWY_DYNAMIC_DISPATCH(scatter_add)(tokens, gradient, first_row, table_gradient);
}

void CpuKernels::mean_pool(ConstMatrix x, std::span<const index_t> lengths, index_t first,
                           Matrix out) {
  WEIR_ASSERT(std::ssize(lengths) == out.extent(0) && x.extent(1) == out.extent(1));
  WEIR_ASSERT(x.extent(0) % std::max<index_t>(out.extent(0), 1) == 0);
  const Vector sum = Vector(scratch_of(out.extent(1))).first(out.extent(1));
  for (index_t b = 0; b < out.extent(0); ++b) {
    const index_t tokens = x.extent(0) / out.extent(0);
    const index_t length = lengths[b];
    fill(sum, 0);
    add_column_sums(x.rows(b * tokens, std::clamp<index_t>(length - first, 0, tokens)), sum);
    HWY_DYNAMIC_DISPATCH(divide)
    (sum, static_cast<float>(std::max<index_t>(length, 1)), out[b]);
  }
}

void CpuKernels::mean_pool_backward(ConstMatrix out_gradient, std::span<const index_t> lengths,
                                    index_t first, Matrix x_gradient) {
  const index_t samples = out_gradient.extent(0);
  WEIR_ASSERT(std::ssize(lengths) == samples && out_gradient.extent(1) == x_gradient.extent(1));
  WEIR_ASSERT(x_gradient.extent(0) % std::max<index_t>(samples, 1) == 0);
  for (index_t b = 0; b < samples; ++b) {
    const index_t tokens = x_gradient.extent(0) / samples;
    const index_t length = lengths[b];
    const index_t here = std::clamp<index_t>(length - first, 0, tokens);
    const Matrix sample = x_gradient.rows(b * tokens, tokens);
    for (index_t r = 0; r < here; ++r) {
      HWY_DYNAMIC_DISPATCH(divide)(out_gradient[b], static_cast<float>(length), sample[r]);
    }
    fill(sample.rows(here, tokens - here).flat(), 0);
  }
}

}  // namespace weir::worker
#endif
