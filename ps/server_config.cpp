#include "ps/server_config.hpp"

namespace weir::ps {

std::vector<Option> options(ServerConfig& config) {
  std::vector<Option> rows = options(config.optimizer);
  for (const auto& table :
       {options(config.rate), options(config.clip), options(config.loss_scale),
        options(config.rollback), options(config.checkpoint), options(config.consistency)}) {
    rows.insert(rows.end(), table.begin(), table.end());
  }
  rows.push_back({"norms", "",
                  "gradient norms in metrics.jsonl: only the total, or also the norm of each layer",
                  choice(config.norms, {{"total", Norms::total}, {"layers", Norms::layers}})});
  return rows;
}

ServerConfig completed(ServerConfig config) {
  config.optimizer.clips_updates = config.clip.policy == ClipPolicy::update_rms;
  if (config.consistency.mode == Consistency::local) {
    config.checkpoint.round_steps = config.consistency.round_steps;
  }
  return config;
}

DecideConfig decide_config(const ServerConfig& config) {
  return {.clip = config.clip,
          .rate = config.rate,
          .loss_scale = config.loss_scale,
          .rollback = config.rollback,
          .norms = config.norms,
          .consistency = config.consistency,
          .training = config.training,
          .decisions = config.decisions,
          .replay = config.replay,
          .files = config.checkpoint.files,
          .checkpoints = !config.checkpoint.folder.empty(),
          .checkpoint_every = config.checkpoint.every};
}

}  // namespace weir::ps
