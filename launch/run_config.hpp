#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/base/log.hpp"
#include "common/base/options.hpp"
#include "common/job/layout.hpp"
#include "launch/progress.hpp"
#include "worker/data/dataset.hpp"
#include "worker/models/config.hpp"
#include "worker/train/config.hpp"

namespace weir {

/// All that a job is made of.
struct RunConfig {
  Layout layout;
  worker::TrainConfig train;
  worker::ModelConfig model;
  worker::DataConfig data;
  std::string run = "runs/default";
  std::string resume = "auto";  ///< auto, never, or the path of a checkpoint
  index_t threads = 1;
  index_t bucket_bytes = 524288;
  ProgressMode progress = ProgressMode::automatic;
  LogLevel log_level = LogLevel::info;
};

/// The tables of all rooms, joined. Their rows point into `config`.
std::vector<Option> options(RunConfig& config);

/// Takes `--config FILE` out of the arguments and sets `config` from that file, the environment and
/// the other arguments. Throws UsageError as parse_options does.
std::vector<Setting> parse_run_config(RunConfig& config, const std::vector<std::string>& arguments,
                                      const std::vector<std::string>& environment);

/// What the data say of the model, without reading them: vocabulary and classes; and its length.
/// Throws UsageError if the model's task is another than the data's.
void fit_model_to_data(RunConfig& config);

/// Throws UsageError for settings that do not go together. Opens no file; how many ranks there are
/// is Layout::check's affair. Call fit_model_to_data first.
void check(const RunConfig& config);

}  // namespace weir
