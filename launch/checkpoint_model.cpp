#include "launch/checkpoint_model.hpp"

#include <algorithm>
#include <set>

#include "common/base/error.hpp"
#include "launch/cut.hpp"
#include "launch/run_folder.hpp"
#include "worker/models/model.hpp"

namespace weir {
namespace {

std::string shape_text(const std::vector<index_t>& shape) {
  std::string words;
  for (const index_t extent : shape) words += text(words.empty() ? "" : " x ", extent);
  return words;
}

/// Throws Error unless the checkpoint's parameters are those of `specs`, and perhaps obsolete ones.
void check_parameters(const CheckpointReader& reader, const std::vector<ParameterSpec>& specs,
                      const std::vector<std::string>& obsolete, const std::string& checkpoint) {
  std::vector<std::string> differences;
  std::set<std::string> known;
  for (const std::string& name : obsolete) known.insert("/model/" + name);
  for (const ParameterSpec& spec : specs) {
    const std::string name = "/model/" + spec.name;
    known.insert(name);
    const auto record = reader.find(name);
    if (!record) {
      differences.push_back(text(spec.name, ": missing"));
      continue;
    }
    const auto& shape = reader.manifest().records[static_cast<std::size_t>(*record)].shape;
    if (shape != spec.shape) {
      differences.push_back(text(spec.name, ": ", shape_text(shape), " in the checkpoint, ",
                                 shape_text(spec.shape), " in the model"));
    }
  }
  for (const CheckpointRecord& record : reader.manifest().records) {
    if (record.name.starts_with("/model/") && !known.contains(record.name)) {
      differences.push_back(text(record.name.substr(7), ": not in the model"));
    }
  }
  if (differences.empty()) return;
  constexpr std::size_t kShown = 20;
  std::string all;
  for (std::size_t at = 0; at < std::min(kShown, differences.size()); ++at) {
    all += "\n  " + differences[at];
  }
  if (differences.size() > kShown) all += text("\n  and ", differences.size() - kShown, " more");
  throw Error(text(checkpoint, " does not hold the model that its settings describe:", all));
}

}  // namespace

fs::path checkpoint_at(const fs::path& path) {
  if (!path_exists(path))
    throw UsageError(text(path.string(), ": there is no such file or folder"));
  if (is_checkpoint(path)) return path;
  const bool is_run = is_folder(RunFolder::checkpoints_of(path));
  if (!is_run && path.filename() != "checkpoints") {
    if (path_exists(path / "model.h5")) {
      throw Error(
          text(path.string(), " is a checkpoint that was never completed: MANIFEST is missing"));
    }
    throw UsageError(text(path.string(),
                          " is neither a checkpoint (a folder with MANIFEST and model.h5) nor a "
                          "run folder (with checkpoints/ in it)"));
  }
  const auto newest = newest_complete(is_run ? RunFolder::checkpoints_of(path) : path);
  if (!newest) throw Error(text(path.string(), " holds no checkpoint yet"));
  return *newest;
}

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

CheckpointModel::CheckpointModel(const CheckpointReader& reader, RunConfig config)
    : config_(std::move(config)), kernels_(config_.threads) {
  config_.model.learned_positions = learned_positions(reader.manifest());
  config_.train.batch = config_.train.micro_batch;  // nothing is trained
  fit_model_to_data(config_);
  check(config_);
  // Before anything is planned: then the model is as large as the file.
  check_parameters(reader, worker::parameter_specs(config_.model),
                   worker::obsolete_parameters(config_.model),
                   text("the checkpoint of step ", reader.manifest().step));
  plan_ = std::make_unique<BucketPlan>(make_bucket_plan(config_, first_units(config_)));

  const Holding& holding = plan_->holding({});
  weights_ = Buffer(holding.element_count);
  for (const HeldSlice& slice : holding.slices) {
    const ParameterSpec& spec = plan_->specs()[static_cast<std::size_t>(slice.parameter)];
    reader.read(*reader.find("/model/" + spec.name), slice.range.begin,
                weights_.span().subspan(static_cast<std::size_t>(slice.offset),
                                        static_cast<std::size_t>(slice.range.count())));
  }
  model_ = std::make_unique<worker::TransformerModel>(config_.model);
  units_.emplace(*model_, holding,
                 worker::StageCut{.last_unit = model_->unit_count() - 1,
                                  .micro_batch = config_.train.micro_batch,
                                  .training = false},
                 worker::SlotCounts(), kernels_);
}

worker::Pass CheckpointModel::pass() {
  return {.kernels = kernels_,
          .shards = alone_,
          .contexts = whole_,
          .weights = std::as_const(weights_).span(),
          .gradients = {},
          .seed = 0,
          .training = false};
}

worker::Loss CheckpointModel::loss(const worker::MicroBatch& batch) {
  WEIR_ASSERT(batch.sequences <= config_.train.micro_batch && batch.length <= config_.model.length);
  return units_->forward(pass(), batch, {}, {}, {});
}

void CheckpointModel::next_token_logits(std::span<const std::int32_t> tokens,
                                        std::span<float> logits) {
  const auto length = static_cast<index_t>(tokens.size());
  WEIR_ASSERT(length >= 1 && length <= config_.model.length);
  const index_t sample = 0;
  const worker::MicroBatch batch = {.sequences = 1,
                                    .length = length,
                                    .tokens = tokens,
                                    .targets = {},
                                    .lengths = {&length, 1},
                                    .samples = {&sample, 1}};
  const index_t last = length - 1;
  units_->predict(pass(), batch, {&last, 1}, Matrix(logits, 1, std::ssize(logits)));
}

}  // namespace weir
