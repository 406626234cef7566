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

/// Two successive terms of a sum in bf16, the first in the lower half. AVX512-BF16 multiplies two
/// pairs and adds both products to an f32 in one instruction.
struct Pair {
  std::uint32_t bits;
};
/// Whether kernels for this instruction set know that instruction; see has_pair_products().
constexpr bool kKnowsPairs = HWY_TARGET == HWY_AVX3;

HWY_INLINE Bits load(const Pair* from) {
  return hn::BitCast(kIntegers, hn::LoadU(hn::RebindToUnsigned<Floats>(), &from->bits));
}
HWY_INLINE void store_pairs(Bits pairs, Pair* to) {
  hn::StoreU(hn::BitCast(hn::RebindToUnsigned<Floats>(), pairs), hn::RebindToUnsigned<Floats>(),
             &to->bits);
}
HWY_INLINE V everywhere(float value) { return set(value); }
HWY_INLINE Bits everywhere(Pair pair) { return word(static_cast<std::int32_t>(pair.bits)); }
HWY_INLINE V multiply_add(V a, V b, V sum) { return hn::MulAdd(a, b, sum); }
#if HWY_TARGET == HWY_AVX3
// Highway 1.0.3 does not know these instructions, and a compiler option would turn them on for code
// that runs without them, too.
HWY_INLINE V multiply_add(Bits a, Bits b, V sum) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
  return sum;
}
/// kLanes numbers rounded to bf16, as they lie in memory.
HWY_INLINE hn::Vec<Halves> rounded_to_bf16(V value) {
  hn::Vec<Halves> result;
  asm("vcvtneps2bf16 %1, %0" : "=v"(result.raw) : "v"(value.raw));
  return result;
}
#endif

/// The left factor a(r, k) of a product, at data[r * row + k * step]: rows or columns as they lie.
/// k counts elements: of pairs two terms each.
template <class E>
struct LeftFactor {
  const E* data;
  index_t row;
  index_t step;
};

/// kRows x kVectors of the result, held in registers while k runs.
template <int kRows, int kVectors, class E>
HWY_INLINE void product_block(LeftFactor<E> a, index_t shared, const E* b, index_t b_row,
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
    decltype(load(b)) right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + k * b_row + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const auto left = everywhere(a.data[r * a.row + k * a.step]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = multiply_add(left, right[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(sum[r][v], out + r * out_row + v * kLanes);
  }
}

/// All rows of kVectors vectors of columns, in blocks of at most kRows.
template <int kRows, int kVectors, class E>
HWY_INLINE void product_columns(LeftFactor<E> a, index_t rows, index_t shared, const E* b,
                                index_t b_row, bool accumulate, float* out, index_t out_row) {
  index_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    product_block<kRows, kVectors, E>({a.data + r * a.row, a.row, a.step}, shared, b, b_row,
                                      accumulate, out + r * out_row, out_row);
  }
  if constexpr (kRows > 1) {
    if (r < rows) {
      product_columns<kRows / 2, kVectors, E>({a.data + r * a.row, a.row, a.step}, rows - r, shared,
                                              b, b_row, accumulate, out + r * out_row, out_row);
    }
  }
}

/// out[rows, columns] = a b, or += with accumulate; b: [shared, columns], rows b_row apart.
/// columns is a multiple of kLanes.
template <class E>
inline void small_product(LeftFactor<E> a, index_t rows, index_t shared, index_t columns,
                          const E* b, index_t b_row, bool accumulate, float* out, index_t out_row) {
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
