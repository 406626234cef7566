#pragma once

#include "common/base/index.hpp"

namespace weir::test {

/// Counts what this thread has allocated and not freed since this was made: by malloc, new and all
/// that is built on them. One at a time in a thread.
class AllocationPeak {
 public:
  AllocationPeak();
  index_t bytes() const;  ///< the most that lived at once
};

}  // namespace weir::test
