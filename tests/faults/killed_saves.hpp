#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// Ranks killed before a call that changes a file: what is committed loads, and a job that resumes
/// from it ends with the bits of an undisturbed one.
std::unique_ptr<Part> killed_saves();

}  // namespace weir::test
