#pragma once

#include <span>
#include <vector>

#include "common/base/index.hpp"

namespace weir::worker {

/// Cuts a model into stages of about equal cost: each a run of units of which at least one fills a
/// stage, so that light ones (an embedding, a head) share one with others. Returns the first unit
/// of each stage; result[0] is 0.
///
/// Exact: no cut has a cheaper most expensive stage, which bounds the time of a step. Among these
/// the sum of the squares of the stages' costs is least (as even as possible); among equals of
/// that, the first stage is shortest, then the second, and so on, since early stages hold more
/// activations.
///
/// unit_costs: seconds or FLOPs, finite, >= 0. fills_a_stage: of each unit. Throws UsageError if
/// there are fewer that fill a stage than stages. Time: stages x units^2.
std::vector<index_t> partition_units(std::span<const double> unit_costs,
                                     const std::vector<bool>& fills_a_stage, index_t stages);

}  // namespace weir::worker
