#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// Files and words that were damaged, by chance or on purpose, read in this process: they are
/// refused by name or taken for what they were. Never does this end the process, take 2 s or more
/// memory than the data and 64 MiB.
std::unique_ptr<Part> damage();

}  // namespace weir::test
