#include <algorithm>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::worker {
namespace {

void add_row(std::span<const float> from, std::span<float> to) {
  const float* source = from.data();
  float* target = to.data();
#pragma omp simd
  for (std::size_t c = 0; c < to.size(); ++c) target[c] += source[c];
}

}  // namespace

void CpuKernels::gather_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                             Matrix to) {
  WEIR_ASSERT(std::ssize(rows) == to.extent(0) && column + to.extent(1) <= from.extent(1));
  for (index_t i = 0; i < to.extent(0); ++i) {
    const index_t row = rows[static_cast<std::size_t>(i)];
    if (row < 0) {
      fill(to[i], 0);
    } else {
      std::copy_n(as<float>(from)[row].data() + column, to.extent(1), as<float>(to)[i].data());
    }
  }
}

void CpuKernels::scatter_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                              bool accumulate, Matrix to) {
  WEIR_ASSERT(std::ssize(rows) == from.extent(0) && column + from.extent(1) <= to.extent(1));
  for (index_t i = 0; i < from.extent(0); ++i) {
    const index_t row = rows[static_cast<std::size_t>(i)];
    if (row < 0) continue;
    const Vector part = to[row].part(column, from.extent(1));
    if (accumulate) {
      add_row(as<float>(from[i]), as<float>(part));
    } else {
      copy(from[i], part);
    }
  }
}

void CpuKernels::gather(std::span<const std::int32_t> tokens, ConstMatrix table, index_t first_row,
                        Matrix out) {
  WEIR_ASSERT(std::ssize(tokens) == out.extent(0) && table.extent(1) == out.extent(1));
  for (index_t r = 0; r < out.extent(0); ++r) {
    const index_t row = tokens[static_cast<std::size_t>(r)] - first_row;
    if (0 <= row && row < table.extent(0)) {
      add_row(as<float>(table[row]), as<float>(out[r]));
    }
  }
}

void CpuKernels::scatter_add(std::span<const std::int32_t> tokens, ConstMatrix gradient,
                             index_t first_row, Matrix table_gradient) {
  WEIR_ASSERT(std::ssize(tokens) == gradient.extent(0));
  WEIR_ASSERT(gradient.extent(1) == table_gradient.extent(1));
  for (index_t r = 0; r < gradient.extent(0); ++r) {
    const index_t row = tokens[static_cast<std::size_t>(r)] - first_row;
    if (0 <= row && row < table_gradient.extent(0)) {
      add_row(as<float>(gradient[r]), as<float>(table_gradient[row]));
    }
  }
}

void CpuKernels::mean_pool(ConstMatrix x, std::span<const index_t> lengths, index_t first,
                           Matrix out) {
  WEIR_ASSERT(std::ssize(lengths) == out.extent(0) && x.extent(1) == out.extent(1));
  WEIR_ASSERT(x.extent(0) % std::max<index_t>(out.extent(0), 1) == 0);
  for (index_t b = 0; b < out.extent(0); ++b) {
    const index_t tokens = x.extent(0) / out.extent(0);
    const index_t length = lengths[static_cast<std::size_t>(b)];
    const Vector mean = out[b];
    fill(mean, 0);
    add_column_sums(x.rows(b * tokens, std::clamp<index_t>(length - first, 0, tokens)), mean);
    const auto count = static_cast<float>(std::max<index_t>(length, 1));
    for (float& value : as<float>(mean)) value /= count;
  }
}

void CpuKernels::mean_pool_backward(ConstMatrix out_gradient, std::span<const index_t> lengths,
                                    index_t first, Matrix x_gradient) {
  const index_t samples = out_gradient.extent(0);
  WEIR_ASSERT(std::ssize(lengths) == samples && out_gradient.extent(1) == x_gradient.extent(1));
  WEIR_ASSERT(x_gradient.extent(0) % std::max<index_t>(samples, 1) == 0);
  for (index_t b = 0; b < samples; ++b) {
    const index_t tokens = x_gradient.extent(0) / samples;
    const index_t length = lengths[static_cast<std::size_t>(b)];
    const index_t here = std::clamp<index_t>(length - first, 0, tokens);
    const Matrix sample = x_gradient.rows(b * tokens, tokens);
    for (index_t r = 0; r < here; ++r) {
      std::ranges::transform(as<float>(out_gradient[b]), as<float>(sample[r]).data(),
                             [length](float g) { return g / static_cast<float>(length); });
    }
    fill(sample.rows(here, tokens - here).flat(), 0);
  }
}

}  // namespace weir::worker
