#pragma once

#include <cstdint>

namespace weir {

/// Every extent, offset and count of elements or bytes.
using index_t = std::int64_t;

}  // namespace weir
