#pragma once

#include <span>

#include "common/number/view.hpp"

namespace weir::worker {

/// Products of one strip by OpenBLAS, in f32, on as many threads as set_blas_threads said.

/// What a core does in about a millisecond, at 100 GFLOP/s.
inline constexpr index_t kMultiplyAddsAPanel = 50'000'000;

/// How many rows of a product make a panel, so that `progress()` is called about every millisecond.
/// Follows from the shapes alone, never from a clock: where a product is cut decides its rounding.
index_t panel_rows(index_t multiply_adds_a_row, index_t fewest);

/// out[m, n] = a[m, k] b (+ bias[n] if not empty), or out += with accumulate and without a bias. b:
/// [k, n], or [n, k] if it is transposed.
void multiply_by_blas(View<const float, 2> a, View<const float, 2> b, bool b_is_transposed,
                      std::span<const float> bias, bool accumulate, View<float, 2> out);
/// out[m, n] += a[t, m]^T b[t, n].
void add_transposed_by_blas(View<const float, 2> a, View<const float, 2> b, View<float, 2> out);

}  // namespace weir::worker
