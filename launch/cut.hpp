#pragma once

#include <vector>

#include "common/base/interval.hpp"
#include "common/job/bucket.hpp"
#include "launch/run_config.hpp"
#include "worker/models/model.hpp"

namespace weir {

/// How a model is cut over the ranks. It follows from the configuration alone (after
/// fit_model_to_data and check), so all ranks find the same cut without a message.

/// The first unit of each of this number of chunks of about equal cost.
std::vector<index_t> first_units(const RunConfig& config, index_t chunks);
/// The same for the chunks that a job trains, of which chunk c is on stage c mod stages.
std::vector<index_t> first_units(const RunConfig& config);

/// The chunks of a stage, in ascending order.
std::vector<index_t> chunks_of_stage(const RunConfig& config, index_t stage);

/// Units of a chunk: [begin, end).
Interval units_of_chunk(const RunConfig& config, const std::vector<index_t>& first_units,
                        index_t chunk);

/// What the workers that hold a chunk run of it.
worker::StageCut chunk_cut(const RunConfig& config, const std::vector<index_t>& first_units,
                           index_t chunk);

/// Throws UsageError, before it plans anything, if the model has more than kBucketsMax buckets.
inline constexpr index_t kBucketsMax = index_t{1} << 20;
BucketPlan make_bucket_plan(const RunConfig& config, const std::vector<index_t>& first_units);

}  // namespace weir
