#pragma once

#include <algorithm>

#include "common/base/error.hpp"
#include "common/base/list.hpp"

namespace weir {

/// The middle one of at least one value; of an even number the upper one.
inline double median(List<double> values) {
  WEIR_ASSERT(!values.empty());
  const auto middle = values.begin() + values.size() / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace weir
