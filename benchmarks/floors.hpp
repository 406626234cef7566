#pragma once

#include <vector>

#include "benchmarks/product_rates.hpp"
#include "common/base/index.hpp"

namespace weir::benchmark {

/// FLOP/s of one core whose products take operands of one type and sum in f32, each time by the
/// library that is faster.
struct ProductRates {
  double large = 0;  ///< 768 x 768 x 768
  double own = 0;    ///< the shapes of a kernel
  /// A program that needs this many operations is not faster.
  double best() const { return large > own ? large : own; }
};

/// Measures each library and shape for about `seconds` seconds. A type that the processor does not
/// multiply has the rates of f32, which it is converted to.
ProductRates measured_rates(Dtype dtype, const std::vector<ProductShape>& shapes, double seconds);

/// Bytes that one core moves in a second to and from memory: a[i] += b[i] over two arrays of
/// `stream_elements` floats (the best of several passes: three streams, two read and one written).
/// The arrays should be much larger than the caches.
double measured_stream_rate(index_t stream_elements);

}  // namespace weir::benchmark
