#pragma once

#include <algorithm>
#include <vector>

#include "common/base/error.hpp"

namespace weir {

/// The middle one of at least one value; of an even number the upper one.
inline double median(std::vector<double> values) {
  WEIR_ASSERT(!values.empty());
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace weir
