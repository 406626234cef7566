#pragma once

#include <string>
#include <vector>

#include "launch/job.hpp"

namespace weir {

/// Logs what a job is about to train:
///
///   trains 105,472 parameters on book.txt: 28,000 bytes to train on, 2,000 held out
///   an epoch has 436 windows of 64 bytes; steps 1 to 6, 4 windows each, lead to epoch 0.055
///   validates on all 61 windows at the end
///
/// step and cursor: where it begins. The second line is missing if there is nothing to train. A
/// last line tells who trains in a low precision that the processor does not multiply.
std::vector<std::string> start_report(const Job& job, index_t step, index_t cursor);

}  // namespace weir
