#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/base/log.hpp"
#include "common/base/options.hpp"
#include "common/job/data_plane.hpp"
#include "common/job/layout.hpp"
#include "common/wire/wire.hpp"
#include "launch/run/watchdog_config.hpp"
#include "launch/terminal/progress_bar.hpp"
#include "ps/local_steps.hpp"
#include "ps/server.hpp"
#include "worker/data/dataset.hpp"
#include "worker/kernels/cpu/product_choice.hpp"
#include "worker/models/transformer/config.hpp"
#include "worker/train/config.hpp"

namespace weir {

/// Everything that a job is made of.
struct RunConfig {
  Layout layout;
  worker::TrainConfig train;
  worker::ModelConfig model;
  worker::DataConfig data;
  ps::ServerConfig server;
  ps::LocalConfig local;
  std::string run = "runs/default";
  bool owner_only = false;      ///< only the owner may read what the run leaves
  std::string resume = "auto";  ///< auto, never, or the path of a checkpoint
  bool accept_changed_data = false;
  std::string trace;   ///< the file for a trace; empty: none is recorded
  std::string replay;  ///< a decision log whose decisions are repeated
  index_t threads = 1;
  worker::ProductChoice products;  ///< instructions: the weakest of all ranks
  index_t bucket_bytes = 524288;
  Transport transport = Transport::automatic;
  index_t ring_depth = kChannelDepth;
  WireConfig wire;
  ProgressMode progress = ProgressMode::automatic;
  LogLevel log_level = LogLevel::info;
  WatchdogConfig watchdog;
};

/// The tables of all rooms, joined. Their rows point into `config`.
std::vector<Option> options(RunConfig& config);

/// Some rows of that table, in its order: those with these names; a name that ends in a dot stands
/// for all rows that begin with it. Throws Error for a name that no row has.
std::vector<Option> chosen_options(RunConfig& config, const std::vector<std::string>& names);

/// A configuration and where each of its values came from.
struct ParsedConfig {
  RunConfig config;
  std::vector<Setting> settings;
  std::vector<std::string> remarks = {};  ///< log lines about what a user may not expect
};

/// Takes `--config FILE` out of the arguments. That file, the environment and the other arguments
/// change the defaults. The config.ini of a run folder stands for that run: see settle_run. Throws
/// UsageError as parse_options does.
ParsedConfig parse_run_config(const std::vector<std::string>& arguments,
                              const std::vector<std::string>& environment);

/// Settings as one string, for other ranks.
std::string settings_as_text(const std::vector<Setting>& settings);
ParsedConfig run_config_from_text(const std::string& text);

/// Sets what the data decide of the model (vocabulary, classes) and its length; reads no data.
/// Throws UsageError if the model's task is not one for these data.
void fit_model_to_data(RunConfig& config);

/// The dtype in which workers get their weights from the servers: the one that they compute with.
/// Where replicas step by themselves (--consistency local) it is f32, and each makes its own.
Dtype pulled_dtype(const RunConfig& config);

/// Throws UsageError for settings that do not go together. Opens no file. Layout::check looks at
/// the number of ranks. Call fit_model_to_data first.
void check(const RunConfig& config);

}  // namespace weir
