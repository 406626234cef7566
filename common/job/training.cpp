#include "common/job/training.hpp"

#include <algorithm>

namespace weir {

std::string name_of(Precision precision) {
  return std::ranges::find(kPrecisionNames, precision, &std::pair<std::string, Precision>::second)
      ->first;
}

}  // namespace weir
