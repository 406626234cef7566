#pragma once

#include "common/net/mpi.hpp"
#include "common/number/memory.hpp"
#include "common/number/tensor.hpp"

namespace weir::worker {

/// values[i] = sum over the ranks, in place. A low type is added up in f32 and rounded once.
/// `staging` keeps the f32 between calls.
void sum_in_f32(const Comm& comm, Vector values, Buffer& staging);

}  // namespace weir::worker
