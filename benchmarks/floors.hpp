#pragma once

#include "common/base/index.hpp"

namespace weir::benchmark {

/// What one core can do at best in a second: a program that needs this many operations or bytes is
/// not faster.
struct CoreRates {
  double flops = 0;  ///< what sgemm reaches
  double bytes = 0;  ///< to and from memory
};

/// Measures sgemm for about `seconds` seconds (the best call) and a[i] += b[i] over two arrays of
/// `stream_elements` elements (the best of several passes: three streams, two read and one
/// written). The arrays should be much larger than the caches.
CoreRates measured_rates(double seconds, index_t stream_elements);

}  // namespace weir::benchmark
