#pragma once

#include <memory>

#include "tests/faults/part.hpp"

namespace weir::test {

/// Jobs that stand still since a rank is stopped, a message is lost or a disk hangs. They end with
/// 86 in time, and the right rank is named; the supervisor starts them again, and they end with the
/// bits of an undisturbed one. A disk that is only slow ends nothing.
std::unique_ptr<Part> still_jobs();

}  // namespace weir::test
