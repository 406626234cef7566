#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// A checkpoint that one layout has saved is loaded on another, which saves it again before it
/// changes anything: every tensor has the same bits.
std::unique_ptr<Part> layouts();

}  // namespace weir::test
