#pragma once

#include "common/base/interval.hpp"

namespace weir {

/// Part `part` of `count` things that are shared out in order, as evenly as possible.
inline Interval even_part(index_t count, index_t part, index_t parts) {
  return {part * count / parts, (part + 1) * count / parts};
}

}  // namespace weir
