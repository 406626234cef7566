#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// Requests to stop at random times, many in the first second: a job ends with 75, and a step is
/// committed.
std::unique_ptr<Part> stop_requests();

}  // namespace weir::test
