#include <cblas.h>

#include <algorithm>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::worker {
namespace {

/// How many rows of a product make a panel, so that `progress()` is called about every millisecond.
/// It follows from the shapes alone, never from a clock, because the cuts of a product decide its
/// rounding. At least `fewest` rows: OpenBLAS packs the other factor anew in every call.
index_t panel_rows(index_t multiply_adds_a_row, index_t fewest) {
  constexpr index_t kMultiplyAddsAPanel = 50'000'000;  // 1 ms at 100 GFLOP/s
  const index_t rows = kMultiplyAddsAPanel / std::max<index_t>(multiply_adds_a_row, 1);
  return std::max(fewest, rows / 32 * 32);
}

struct Factor {
  View<const float, 2> matrix;
  CBLAS_TRANSPOSE transpose;
};

/// out = a b + beta out.
void gemm(const Factor& a, const Factor& b, float beta, View<float, 2> out) {
  const index_t shared = a.matrix.extent(a.transpose == CblasTrans ? 0 : 1);
  const auto stride = [](const auto& m) {
    return static_cast<blasint>(std::max<index_t>(m.extent(1), 1));
  };
  cblas_sgemm(CblasRowMajor, a.transpose, b.transpose, static_cast<blasint>(out.extent(0)),
              static_cast<blasint>(out.extent(1)), static_cast<blasint>(shared), 1, a.matrix.data(),
              stride(a.matrix), b.matrix.data(), stride(b.matrix), beta, out.data(), stride(out));
}

}  // namespace

index_t CpuKernels::attention_strip(index_t heads_width) const {
  constexpr index_t kStripElements = 1 << 17;
  constexpr index_t kFewest = 128;  // OpenBLAS packs the weights anew for each strip
  constexpr index_t kMost = 512;
  return std::clamp(kStripElements / (3 * heads_width) / 16 * 16, kFewest, kMost);
}

index_t CpuKernels::product_strip(index_t rows, index_t columns) const {
  constexpr index_t kStripElements = 1 << 18;  // some 1 MiB of results
  constexpr index_t kFewestRows = 64;          // enough for an efficient product
  return std::clamp<index_t>(kStripElements / std::max<index_t>(columns, 1),
                             std::min(rows, kFewestRows), rows);
}

void CpuKernels::multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out) {
  const index_t m = out.extent(0);
  const index_t n = out.extent(1);
  const index_t k = a.extent(1);
  WEIR_ASSERT(a.extent(0) == m && b.extent(0) == n && b.extent(1) == k);
  WEIR_ASSERT(bias.empty() || bias.size() == n);
  if (n == 0) return;
  const View<const float, 2> left = as<float>(a);
  const View<const float, 2> right = as<float>(b);
  const std::span<const float> first = as<float>(bias);
  const index_t panel = panel_rows(n * k, 128);
  for (index_t begin = 0; begin < m; begin += panel) {
    if (begin > 0) progress();
    const index_t rows = std::min(panel, m - begin);
    const View<float, 2> part = as<float>(out).rows(begin, rows);
    if (!first.empty()) {
      for (index_t r = 0; r < rows; ++r) std::ranges::copy(first, part[r].data());
    }
    gemm({left.rows(begin, rows), CblasNoTrans}, {right, CblasTrans}, first.empty() ? 0.0F : 1.0F,
         part);
  }
}

void CpuKernels::multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) {
  const index_t m = out.extent(0);
  const index_t n = out.extent(1);
  const index_t k = a.extent(1);
  WEIR_ASSERT(a.extent(0) == m && b.extent(0) == k && b.extent(1) == n);
  if (n == 0) return;
  const index_t panel = panel_rows(n * k, 128);
  for (index_t begin = 0; begin < m; begin += panel) {
    if (begin > 0) progress();
    const index_t rows = std::min(panel, m - begin);
    gemm({as<float>(a).rows(begin, rows), CblasNoTrans}, {as<float>(b), CblasNoTrans},
         accumulate ? 1.0F : 0.0F, as<float>(out).rows(begin, rows));
  }
}

void CpuKernels::add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) {
  const index_t m = out.extent(0);
  const index_t n = out.extent(1);
  const index_t k = a.extent(0);
  WEIR_ASSERT(a.extent(1) == m && b.extent(0) == k && b.extent(1) == n);
  if (m == 0 || n == 0) return;
  // Panels of the tokens, not of out: both factors are then runs of rows, and OpenBLAS itself goes
  // through the shared dimension in steps of some hundreds.
  const index_t panel = panel_rows(m * n, 256);
  for (index_t begin = 0; begin < k; begin += panel) {
    if (begin > 0) progress();
    const index_t rows = std::min(panel, k - begin);
    gemm({as<float>(a).rows(begin, rows), CblasTrans},
         {as<float>(b).rows(begin, rows), CblasNoTrans}, 1.0F, as<float>(out));
  }
}

}  // namespace weir::worker
