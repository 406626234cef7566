#pragma once

#include <algorithm>
#include <vector>

#include "common/base/error.hpp"
#include "common/number/tensor.hpp"
#include "common/wire/narrow.hpp"  // round_to

namespace weir::test {

/// The elements of a vector of any dtype, exactly.
inline std::vector<float> floats_of(ConstVector values) {
  std::vector<float> floats(static_cast<std::size_t>(values.size()));
  switch (values.dtype()) {
    case Dtype::f32:
      std::ranges::copy(as<float>(values), floats.begin());
      return floats;
    case Dtype::bf16:
      from_bf16({&as<Bf16>(values).data()->bits, floats.size()}, floats);
      return floats;
    case Dtype::fp16:
      from_fp16({&as<Fp16>(values).data()->bits, floats.size()}, 1, floats);
      return floats;
    case Dtype::i32:
      break;
  }
  WEIR_UNREACHABLE();
}

}  // namespace weir::test
