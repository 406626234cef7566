#pragma once

#include "common/base/index.hpp"

namespace weir::benchmark {

/// What one core can do at best, a second: no program that needs so many operations or bytes is
/// faster.
struct CoreRates {
  double flops = 0;  ///< what sgemm reaches
  double bytes = 0;  ///< to and from memory
};

/// sgemm for about `seconds` seconds, the best call; and a[i] += b[i] over two arrays of so many
/// elements, the best pass of several: three streams, two read and one written. Let the arrays be
/// much larger than the caches.
CoreRates measured_rates(double seconds, index_t stream_elements);

}  // namespace weir::benchmark
