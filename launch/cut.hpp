#pragma once

#include <vector>

#include "common/base/interval.hpp"
#include "common/job/bucket.hpp"
#include "launch/run_config.hpp"
#include "worker/models/model.hpp"

namespace weir {

/// How a model is cut over the ranks. It follows from the configuration alone (after
/// fit_model_to_data and check), so all ranks find the same cut without a message.

/// The first unit of each stage: stages of about equal cost.
std::vector<index_t> first_units(const RunConfig& config);

/// Units of a stage: [begin, end).
Interval units_of_stage(const RunConfig& config, const std::vector<index_t>& first_units,
                        index_t stage);

/// What the workers of a stage run.
worker::StageCut stage_cut(const RunConfig& config, const std::vector<index_t>& first_units,
                           index_t stage);

/// Throws UsageError, before it plans anything, if the model has more than kBucketsMax buckets.
inline constexpr index_t kBucketsMax = index_t{1} << 20;
BucketPlan make_bucket_plan(const RunConfig& config, const std::vector<index_t>& first_units);

}  // namespace weir
