#pragma once

#include <filesystem>
#include <vector>

#include "common/base/options.hpp"
#include "common/job/training.hpp"
#include "ps/decide/decide.hpp"
#include "ps/save/snapshot.hpp"
#include "ps/update/optimizer.hpp"

namespace weir::ps {

/// What a server is told: the options of its rooms, and what follows from the rest of the job.
struct ServerConfig {
  OptimizerConfig optimizer;
  ClipConfig clip;
  RateConfig rate;
  LossScaleConfig loss_scale;
  RollbackConfig rollback;
  Norms norms = Norms::total;
  SnapshotConfig checkpoint;
  ConsistencyConfig consistency;
  // No options: what follows from the rest of the job, as in DecideConfig.
  Training training;
  bool resumes = false;  ///< a checkpoint will be loaded, so no initial weights are drawn
  std::filesystem::path decisions;
  std::filesystem::path replay;
};

/// The rows of all tables that the configuration consists of.
std::vector<Option> options(ServerConfig& config);

/// The same with what one room's settings say to another: whether the optimizer clips updates, and
/// the rounds that a checkpoint counts.
ServerConfig completed(ServerConfig config);

/// What the decisions of server 0 need of it.
DecideConfig decide_config(const ServerConfig& config);

}  // namespace weir::ps
