#pragma once

#include <algorithm>

#include "common/number/index.hpp"

namespace weir::benchmark {

/// What one core could do at best: no program that needs so many operations and bytes is faster.
struct CoreRates {
  double flops = 0;  ///< a second, of sgemm
  double bytes = 0;  ///< a second to and from memory

  /// Seconds for so many FLOPs, and for so many bytes.
  double seconds_of_flops(double count) const { return count / flops; }
  double seconds_of_bytes(double count) const { return count / bytes; }
  /// The better of both, measurement by measurement: a neighbour only ever slows a core down.
  void raise(const CoreRates& other) {
    flops = std::max(flops, other.flops);
    bytes = std::max(bytes, other.bytes);
  }
};

/// sgemm for about `seconds` seconds, the best call; and a[i] += b[i] over two arrays of so many
/// elements, the best pass of several: three streams, two read and one written. Let the arrays be
/// much larger than the caches.
CoreRates measured_rates(double seconds, index_t stream_elements);

}  // namespace weir::benchmark
