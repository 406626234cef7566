#include "worker/kernels/cpu/gemm.hpp"

#include <cblas.h>

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::worker {
namespace {

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

index_t panel_rows(index_t multiply_adds_a_row, index_t fewest) {
  const index_t rows = kMultiplyAddsAPanel / std::max<index_t>(multiply_adds_a_row, 1);
  return std::max(fewest, rows / 32 * 32);
}

void multiply_by_blas(View<const float, 2> a, View<const float, 2> b, bool b_is_transposed,
                      std::span<const float> bias, bool accumulate, View<float, 2> out) {
  WEIR_ASSERT(bias.empty() || !accumulate);
  if (!bias.empty()) {
    for (index_t r = 0; r < out.extent(0); ++r) std::ranges::copy(bias, out[r].data());
  }
  gemm({a, CblasNoTrans}, {b, b_is_transposed ? CblasTrans : CblasNoTrans},
       !bias.empty() || accumulate ? 1.0F : 0.0F, out);
}

void add_transposed_by_blas(View<const float, 2> a, View<const float, 2> b, View<float, 2> out) {
  gemm({a, CblasTrans}, {b, CblasNoTrans}, 1.0F, out);
}

}  // namespace weir::worker
