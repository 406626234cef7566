#pragma once

#include <mpi.h>

#include <cstddef>
#include <limits>

#include "common/base/error.hpp"

namespace weir {

/// Bytes as MPI counts them: in words of four bytes, or of two if there is an odd number of those.
struct Words {
  explicit Words(std::size_t bytes) : type(bytes % 4 == 0 ? MPI_UINT32_T : MPI_UINT16_T) {
    const std::size_t word_bytes = bytes % 4 == 0 ? 4 : 2;
    WEIR_ASSERT(bytes % word_bytes == 0);
    WEIR_ASSERT(bytes / word_bytes <= std::size_t(std::numeric_limits<int>::max()));
    count = static_cast<int>(bytes / word_bytes);
  }
  MPI_Datatype type;
  int count = 0;
};

}  // namespace weir
