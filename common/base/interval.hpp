#pragma once

#include <algorithm>

#include "common/base/index.hpp"

namespace weir {

/// Whole numbers in a row, [begin, end): tokens of a sequence, rows of a matrix, micro-batches of a
/// step, elements of a parameter.
struct Interval {
  index_t begin = 0;
  index_t end = 0;

  index_t count() const { return end - begin; }
  bool holds(index_t number) const { return begin <= number && number < end; }
  bool operator==(const Interval&) const = default;
};

/// The numbers that are in both; empty if there are none.
inline Interval overlap(Interval a, Interval b) {
  const index_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

}  // namespace weir
