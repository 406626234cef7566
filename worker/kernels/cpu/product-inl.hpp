// Small products for the tiles of attention, compiled once for each instruction set (see
// cpu_simd-inl.hpp). OpenBLAS takes microseconds to start, a tile takes one.

#if defined(WEIR_WORKER_KERNELS_CPU_PRODUCT_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_WORKER_KERNELS_CPU_PRODUCT_INL_HPP
#undef WEIR_WORKER_KERNELS_CPU_PRODUCT_INL_HPP
#else
#define WEIR_WORKER_KERNELS_CPU_PRODUCT_INL_HPP
#endif

#include "worker/kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {

/// The left factor a(r, k) of a product, at data[r * row + k * step]: rows or columns as they lie.
struct LeftFactor {
  const float* data;
  index_t row;
  index_t step;
};

/// kRows x kVectors of the result, held in registers while k runs.
template <int kRows, int kVectors>
HWY_INLINE void product_block(LeftFactor a, index_t shared, const float* b, index_t b_row,
                              bool accumulate, float* out, index_t out_row) {
  V sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = accumulate ? load(out + r * out_row + v * kLanes) : set(0);
    }
  }
  for (index_t k = 0; k < shared; ++k) {
    V right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + k * b_row + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V left = set(a.data[r * a.row + k * a.step]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(sum[r][v], out + r * out_row + v * kLanes);
  }
}

/// All rows of kVectors vectors of columns, in blocks of at most kRows.
template <int kRows, int kVectors>
HWY_INLINE void product_columns(LeftFactor a, index_t rows, index_t shared, const float* b,
                                index_t b_row, bool accumulate, float* out, index_t out_row) {
  index_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    product_block<kRows, kVectors>({a.data + r * a.row, a.row, a.step}, shared, b, b_row,
                                   accumulate, out + r * out_row, out_row);
  }
  if constexpr (kRows > 1) {
    if (r < rows) {
      product_columns<kRows / 2, kVectors>({a.data + r * a.row, a.row, a.step}, rows - r, shared, b,
                                           b_row, accumulate, out + r * out_row, out_row);
    }
  }
}

/// out[rows, columns] = a b, or += with accumulate; b: [shared, columns], rows b_row apart.
/// columns is a multiple of kLanes.
inline void small_product(LeftFactor a, index_t rows, index_t shared, index_t columns,
                          const float* b, index_t b_row, bool accumulate, float* out,
                          index_t out_row) {
  // Sums, right factors and one left factor fit into the registers: 32 of them with AVX-512, else
  // 16; and there are enough sums to hide the latency of a multiply-add.
  constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM;
  constexpr int kVectors = kManyRegisters ? 4 : 2;
  index_t c = 0;
  for (; c + kVectors * kLanes <= columns; c += kVectors * kLanes) {
    if (rows <= 4) {
      product_columns<4, kVectors>(a, rows, shared, b + c, b_row, accumulate, out + c, out_row);
    } else {
      product_columns<6, kVectors>(a, rows, shared, b + c, b_row, accumulate, out + c, out_row);
    }
  }
  for (; c + 2 * kLanes <= columns; c += 2 * kLanes) {
    product_columns<kManyRegisters ? 12 : 6, 2>(a, rows, shared, b + c, b_row, accumulate, out + c,
                                                out_row);
  }
  for (; c < columns; c += kLanes) {
    product_columns<kManyRegisters ? 16 : 12, 1>(a, rows, shared, b + c, b_row, accumulate, out + c,
                                                 out_row);
  }
}

}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
