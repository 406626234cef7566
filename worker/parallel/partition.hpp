#pragma once

#include <span>
#include <vector>

#include "common/number/index.hpp"

namespace weir::worker {

/// Cuts a model into stages of about equal cost. Units are [embedding, block 0 .. block L-1, head];
/// a stage is a run of units with at least one block, so L >= stages (embedding with stage 0, head
/// with the last). Returns the first unit of each stage; result[0] is 0.
///
/// Exact: no cut has a cheaper most expensive stage, which bounds the time of a step. Among these
/// the sum of the squares of the stages' costs is least (as even as possible); among equals of
/// that, the first stage is shortest, then the second, and so on, since early stages hold more
/// activations.
///
/// unit_costs: seconds or FLOPs, finite, >= 0, at least three. Throws UsageError if L < stages.
/// Time: stages x L^2.
std::vector<index_t> partition_units(std::span<const double> unit_costs, index_t stages);

}  // namespace weir::worker
