#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// A rank killed at random, half of them while a checkpoint is half written: the supervisor starts
/// the job again, and it ends with the bits of an undisturbed one.
std::unique_ptr<Part> killed_ranks();

}  // namespace weir::test
