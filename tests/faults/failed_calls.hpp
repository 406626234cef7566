#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// Calls that change files fail, once or from then on: what is committed stays whole, training goes
/// on or ends with the reason and its exit code, and an interrupted or short call changes nothing.
std::unique_ptr<Part> failed_calls();

}  // namespace weir::test
