#pragma once

#include <string>
#include <vector>

#include "common/base/options.hpp"
#include "common/job/layout.hpp"
#include "common/job/training.hpp"
#include "worker/models/stage_cut.hpp"
#include "worker/schedule/schedule.hpp"

namespace weir::worker {

/// How workers train.
struct TrainConfig {
  Training training;
  index_t length = 256;       ///< tokens of a sequence
  index_t eval_samples = 64;  ///< samples of a validation during training
  index_t eval_patience = 0;  ///< validations in a row without a lower loss that end it; 0: none do
  ScheduleKind schedule = ScheduleKind::one_forward_one_backward;
  index_t chunks = 2;  ///< how many each stage has, with ScheduleKind::interleaved
  Recompute recompute = Recompute::none;
  std::string inject = {};  ///< see parse_injection
};

/// The values of --schedule.
inline const std::vector<std::pair<std::string, ScheduleKind>> kScheduleNames = {
    {"1f1b", ScheduleKind::one_forward_one_backward},
    {"1f1b-eager", ScheduleKind::eager_one_forward_one_backward},
    {"gpipe", ScheduleKind::gpipe},
    {"interleaved", ScheduleKind::interleaved},
    {"zb-h1", ScheduleKind::zero_bubble_h1}};

std::vector<Option> options(TrainConfig& config);

/// A step of a replica is a list of these, made ahead.
inline constexpr index_t kMicroBatchesMax = 100'000;

/// Throws UsageError unless the batch consists of whole micro-batches, of which every replica gets
/// at least one and none more than kMicroBatchesMax, and the layout can have the schedule.
void check(const TrainConfig& config, const Layout& layout);

/// The most micro-batches that a replica ever takes in a step.
index_t most_micro_batches(const TrainConfig& config, index_t replicas);

/// The stages of a replica and their chunks.
Pipeline pipeline_of(const TrainConfig& config, const Layout& layout);

/// What the stages of a replica do in a step of `micro_batches` micro-batches.
Schedule schedule_of(const TrainConfig& config, const Layout& layout, index_t micro_batches);

}  // namespace weir::worker
