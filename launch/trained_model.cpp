#include "launch/trained_model.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir {

RunConfig config_of(const CheckpointReader& reader) {
  const Manifest& manifest = reader.manifest();
  RunConfig config;
  const auto table = chosen_options(config, {"model.", "attention.", "data.", "length", "seed"});
  std::vector<Setting> settings;
  std::string missing;
  for (const Option& option : table) {
    const auto found = manifest.settings.find(option.name);
    if (found == manifest.settings.end()) {
      // Another version may not have had it: what is scored can be said anew, the model cannot.
      if (option.name.starts_with("data.")) continue;
      missing += text(missing.empty() ? "" : ", ", option.name);
    } else {
      settings.push_back({option.name, found->second, Source::file});
    }
  }
  if (!missing.empty()) {
    throw Error(text("the checkpoint of step ", manifest.step,
                     " does not say all of its model: its MANIFEST has no ", missing,
                     "; was it written by another version of weir?"));
  }
  apply_settings(table, settings);
  config.layout = {};
  config.layout.placement = Placement::local;
  return config;
}

index_t learned_positions(const Manifest& manifest) {
  const auto table =
      std::ranges::find(manifest.records, "/model/positions.weight", &CheckpointRecord::name);
  return table == manifest.records.end() || table->shape.empty() ? 0 : table->shape.front();
}

void parse_overrides(const std::vector<Option>& table, const std::vector<std::string>& environment,
                     const Arguments& arguments) {
  // The environment may hold what `weir train` is to take.
  RunConfig unused;
  std::vector<Option> all = table;
  for (const Option& option : options(unused)) {
    if (std::ranges::find(table, option.name, &Option::name) == table.end()) all.push_back(option);
  }
  parse_options(all, std::nullopt, environment, {});
  parse_options(table, std::nullopt, {}, arguments);
}

worker::Scorer scorer_of(const CheckpointReader& reader, RunConfig& config) {
  config.model.learned_positions = learned_positions(reader.manifest());
  config.train.training.batch = config.train.training.micro_batch;  // nothing is trained
  fit_model_to_data(config);
  check(config);
  return worker::Scorer(reader, config.model, config.train.training.micro_batch, config.threads);
}

}  // namespace weir
