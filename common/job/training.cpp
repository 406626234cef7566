#include "common/job/training.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir {

std::string name_of(Precision precision) {
  return std::ranges::find(kPrecisionNames, precision, &std::pair<std::string, Precision>::second)
      ->first;
}

Dtype dtype_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return Dtype::f32;
    case Precision::bf16:
      return Dtype::bf16;
    case Precision::fp16:
      return Dtype::fp16;
  }
  WEIR_UNREACHABLE();
}

}  // namespace weir
