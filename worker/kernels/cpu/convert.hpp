#pragma once

#include "common/number/tensor.hpp"

namespace weir::worker {

/// to = from, rounded to nearest if `to` is of a lower dtype. Both on the host.
void convert(ConstVector from, Vector to);

}  // namespace weir::worker
