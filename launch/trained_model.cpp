#include "launch/trained_model.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir {

namespace {

/// What a checkpoint says of the model, of the data and of the samples, and what of it it must say.
struct RecordedOptions {
  explicit RecordedOptions(RunConfig& config)
      : needed(chosen_options(config, {"length", "seed"})), optional(options(config.data)) {
    for (const Option& option : options(config.model)) needed.push_back(option);
  }
  std::vector<Option> needed;
  /// Another version may not have had them, and what is scored can be said anew.
  std::vector<Option> optional;
};

/// The settings of a checkpoint for these options; `missing` gets the names of those it has none
/// for.
std::vector<Setting> recorded_settings(const Manifest& manifest, const std::vector<Option>& table,
                                       std::string& missing) {
  std::vector<Setting> settings;
  for (const Option& option : table) {
    const auto found = manifest.settings.find(option.name);
    if (found == manifest.settings.end()) {
      missing += text(missing.empty() ? "" : ", ", option.name);
    } else {
      settings.push_back({option.name, found->second, Source::file});
    }
  }
  return settings;
}

}  // namespace

RunConfig config_of(const CheckpointReader& reader) {
  const Manifest& manifest = reader.manifest();
  RunConfig config;
  const RecordedOptions recorded(config);
  std::string missing, unsaid;
  const auto needed = recorded_settings(manifest, recorded.needed, missing);
  if (!missing.empty()) {
    throw Error(text("the checkpoint of step ", manifest.step,
                     " does not say all of its model: its MANIFEST has no ", missing,
                     "; was it written by another version of weir?"));
  }
  apply_settings(recorded.needed, needed);
  apply_settings(recorded.optional, recorded_settings(manifest, recorded.optional, unsaid));
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

void complete(const CheckpointReader& reader, RunConfig& config) {
  config.model.learned_positions = learned_positions(reader.manifest());
  Training& training = config.train.training;
  training.batch = training.micro_batch * config.layout.replicas;  // nothing is trained
  fit_model_to_data(config);
  check(config);
}

worker::Scorer scorer_of(const CheckpointReader& reader, RunConfig& config) {
  complete(reader, config);
  return worker::Scorer(reader, config.model, config.train.training.micro_batch, config.threads, {},
                        config.products);
}

}  // namespace weir
