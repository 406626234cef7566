#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// Ranks killed and stopped again and again: the job goes on by itself and has the bits of a twin
/// that runs beside it undisturbed, in each checkpoint that both keep; and nothing grows.
std::unique_ptr<Part> chaos();

}  // namespace weir::test
