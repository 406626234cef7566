#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// Power cuts at any moment of two jobs in a new run folder: whatever the disk has lost of what was
/// not brought to it, nothing is missing that the job had been told to be there. Broken protocols
/// are caught by the same looks.
std::unique_ptr<Part> power_loss();

}  // namespace weir::test
