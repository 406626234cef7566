#include <algorithm>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/base/safe_text.hpp"
#include "common/base/text.hpp"
#include "launch/checkpoint_changes.hpp"
#include "launch/checkpoint_path.hpp"
#include "launch/command.hpp"
#include "launch/cut.hpp"
#include "launch/instructions.hpp"
#include "launch/ranks.hpp"
#include "launch/run_paths.hpp"
#include "launch/terminal/progress_bar.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/table.hpp"
#include "launch/trained_model.hpp"
#include "ps/save/resume.hpp"
#include "worker/data/text/text_dataset.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/train/trainer.hpp"

namespace weir {
namespace {

const std::string kNotFinite =
    "the loss is not finite: training had diverged; score an older checkpoint";

struct EvalConfig {
  index_t samples = 0;
  index_t replicas = 0;  ///< 0: what the ranks make
  bool json = false;
};

std::vector<Option> eval_options(RunConfig& config, EvalConfig& own) {
  std::vector<Option> table = {
      {"samples", "", "number of samples to score, evenly spread; 0: all", &own.samples, {0, 1e15}},
      {"replicas",
       "",
       "copies of the model that share out the samples; 0: what the ranks allow",
       &own.replicas,
       {0, 65536}},
      {"json", "", "print one JSON object and nothing else", &own.json},
  };
  for (const Option& option :
       chosen_options(config, {"stages", "contexts", "shards", "length", "micro-batch", "threads",
                               "products", "progress", "data.files", "data.validation",
                               "data.held-out", "data.stride", "data.listops-split"})) {
    table.push_back(option);
  }
  return table;
}

/// The scores, and what was scored.
struct Evaluation {
  std::string checkpoint;
  index_t step = 0;
  std::string data;
  index_t stride = 0;      ///< tokens between two windows of a text
  double mean_length = 0;  ///< tokens a sample, padding left out
  index_t sample_count = 0;
  index_t samples_in_all = 0;
  worker::Loss loss;
  std::vector<worker::Score> scores;
  double seconds = 0;

  double nats() const { return loss.sum / static_cast<double>(loss.count); }
};

/// Sets the number of replicas, which share out the samples: `wanted`, or as many as the ranks make
/// if that is 0. Throws UsageError unless the layout then has this number of ranks.
void spread_over_ranks(Layout& layout, index_t wanted, index_t ranks) {
  layout.replicas = std::max<index_t>(wanted, 1);
  const index_t needed = layout.worker_count();
  if (wanted == 0 && ranks % needed == 0) layout.replicas = ranks / needed;
  if (layout.worker_count() != ranks) {
    throw UsageError(text(layout.arithmetic(), wanted == 0 ? ", or a multiple of that" : "",
                          ", but ", ranks, ranks == 1 ? " rank was" : " ranks were",
                          " started; start mpirun with -n ", needed));
  }
  if (ranks > 1) layout.placement = Placement::dedicated;
}

/// The WEIR_ variables of rank 0: other hosts may have others.
std::vector<std::string> environment_of(const Ranks& ranks) {
  std::string all;
  for (const std::string& variable : weir_environment()) all += variable + '\0';
  std::istringstream words(ranks.from_rank_0(all));
  std::vector<std::string> variables;
  for (std::string variable; std::getline(words, variable, '\0');) variables.push_back(variable);
  return variables;
}

/// The trained model on all ranks.
struct Model {
  /// Collective. `config` is complete.
  Model(const Ranks& ranks, const CheckpointReader& reader, const RunConfig& config) {
    const Layout& layout = config.layout;
    const index_t micro_batch = config.train.training.micro_batch;
    worker::ScorerPlace where = {layout, layout.worker(ranks.rank()),
                                 first_units(config, layout.stages), nullptr};
    if (ranks.world) {
      const worker::TransformerModel model(config.model);
      const worker::StageCut cut = worker::Scorer::cut_of(model, micro_batch, where);
      where.groups = &groups.emplace(
          layout, where.place, ranks.world, worker::Scorer::group_shape(model, cut),
          [] { return false; }, std::function<bool()>());
    }
    ranks.together([&] {
      scorer.emplace(reader, config.model, micro_batch, config.threads, where, config.products);
    });
  }
  std::optional<worker::WorkerGroups> groups;
  std::optional<worker::Scorer> scorer;
};

/// Scores micro-batch after micro-batch; rank 0 shows how far it is.
worker::Loss score(Model& model, const RunConfig& config, const worker::Dataset& dataset,
                   std::span<const index_t> samples, bool shows) {
  if (!shows) return model.scorer->score(dataset, samples);
  ProgressBar progress({.mode = config.progress, .steps = 0, .out = &std::cerr});
  const worker::Loss loss = model.scorer->score(
      dataset, samples, [&](index_t done, index_t total) { progress.bar("scored", done, total); });
  progress.end();
  return loss;
}

bool is_text(const RunConfig& config) { return config.data.kind == worker::DataKind::text; }

/// The text of a run that has been moved with it. Returns what to tell the user.
std::vector<std::string> find_data(worker::DataConfig& data, const Manifest& manifest,
                                   const fs::path& checkpoint) {
  std::vector<std::string> remarks;
  const auto run = manifest.settings.find("run");
  const fs::path checkpoints = fs::weakly_canonical(checkpoint).parent_path();
  if (run == manifest.settings.end() || checkpoints.filename() != "checkpoints") {
    return remarks;
  }
  for (std::string* const list : {&data.files, &data.validation}) {
    *list = find_data_again(*list, run->second, checkpoints.parent_path(), remarks);
  }
  return remarks;
}

nlohmann::ordered_json as_json(const Evaluation& found, const RunConfig& config) {
  // JSON is UTF-8, but names of files need not be.
  nlohmann::ordered_json json = {{"checkpoint", safe_text(found.checkpoint)},
                                 {"step", found.step},
                                 {"data", safe_text(found.data)},
                                 {"length", config.model.length},
                                 {"samples", found.sample_count},
                                 {"count", found.loss.count},
                                 {"loss", found.nats()}};
  if (!std::isfinite(found.nats())) json["reason"] = kNotFinite;
  if (is_text(config)) json["stride"] = found.stride;
  for (const worker::Score& score : found.scores) {
    json[score.name] = score.of(found.loss);
    for (const worker::Baseline& baseline : score.baselines) json[baseline.name] = baseline.value;
  }
  json["seconds"] = found.seconds;
  return json;
}

/// A line for each score, and one for what can be reached without a model.
void add_scores(const Evaluation& found, Table& table) {
  for (const worker::Score& score : found.scores) {
    const auto words = [&](double value) {
      return score.kind == worker::ScoreKind::share ? fixed(100 * value, 1) + " %"
                                                    : fixed(value, 4);
    };
    table.add({score.title, words(score.of(found.loss))});
    std::string baselines;
    for (const worker::Baseline& baseline : score.baselines) {
      baselines += text(baselines.empty() ? "" : ", ", words(baseline.value), " ", baseline.how);
    }
    if (!baselines.empty()) table.add({"without a model", baselines});
  }
}

std::string as_table(const Evaluation& found, const RunConfig& config) {
  const std::string unit = is_text(config) ? " windows" : " samples";
  const std::string samples = found.sample_count == found.samples_in_all
                                  ? text("all ", grouped(found.sample_count), unit)
                                  : text(grouped(found.sample_count), " of ",
                                         grouped(found.samples_in_all), unit, ", evenly spread,");
  Table table("ll", {"", ""});
  table.add({"checkpoint", found.checkpoint});
  table.add({"step", grouped(found.step)});
  table.add({"data", found.data});
  if (is_text(config)) {
    table.add({"scored", text(grouped(found.loss.count), " bytes, each once, in ", samples,
                              " of length ", config.model.length, " with stride ", found.stride)});
  } else {
    table.add({"scored", text(samples, " of length ", config.model.length)});
  }
  table.add(
      {"loss", std::isfinite(found.nats()) ? text(fixed(found.nats(), 4), " nats") : kNotFinite});
  add_scores(found, table);
  table.add({"time", text(seconds_text(found.seconds), ", ",
                          short_count(static_cast<double>(found.sample_count) * found.mean_length /
                                      found.seconds),
                          " tokens/s")});
  return table.to_text();
}

}  // namespace

int eval(const Arguments& all) {
  Arguments arguments = all;
  RunConfig config;
  EvalConfig own;
  if (asks_for_help(arguments)) {
    std::cout << help_of_command(
        "eval", "CHECKPOINT|RUN [options]",
        "Scores a checkpoint, or the newest complete one of a run folder, on its held-out data: "
        "loss,\n"
        "and bits per byte or accuracy. Model, data and length come from the checkpoint; options\n"
        "override data and length. A model with learned positions takes no greater length.\n"
        "Under mpirun, --stages, --contexts and --shards cut the model as in training, and the "
        "replicas\n"
        "that the ranks make share out the samples.",
        eval_options(config, own));
    return 0;
  }
  const Ranks ranks{started_by_mpi_launcher() ? Comm::world() : Comm()};
  std::string named, folder;
  ranks.together([&] {
    named = take_path("eval", "a checkpoint or a run folder", eval_options(config, own), arguments);
    if (ranks.rank() == 0) folder = checkpoint_at(named).string();
  });
  folder = ranks.from_rank_0(folder);  // a run underway may have saved another meanwhile
  const std::vector<std::string> environment = environment_of(ranks);

  std::optional<CheckpointReader> reader;
  std::unique_ptr<worker::Dataset> dataset;
  ranks.together([&] {
    reader.emplace(folder);
    config = config_of(*reader);
    const auto remarks = find_data(config.data, reader->manifest(), folder);
    const worker::DataConfig recorded = config.data;
    parse_overrides(eval_options(config, own), environment, arguments);
    if (is_text(config) && config.data.stride == 0) {
      config.data.stride = worker::standard_stride(config.train.length);
    }
    spread_over_ranks(config.layout, own.replicas, ranks.size());
    complete(*reader, config);
    worker::Scorer::check(*reader, config.model);
    dataset =
        worker::make_dataset(config.data, config.train.length, config.train.training.random_seed());
    if (ranks.rank() > 0) return;
    for (const std::string& remark : remarks) log_info(remark);
    for (const std::string& warning : dataset->warnings()) log_warning(warning);
    const bool is_chosen = config.data.files != recorded.files ||
                           config.data.validation != recorded.validation ||
                           config.data.held_out != recorded.held_out;
    warn_of_scored_text(reader->manifest(), *dataset, is_chosen);
  });
  set_blas_threads(static_cast<int>(config.threads));
  agree_on_instructions(ranks, config.products);

  Evaluation found;
  found.checkpoint = folder;
  found.step = ps::steps_done(reader->manifest());
  found.data = dataset->describe();
  ranks.same("the data", found.data);
  found.mean_length = dataset->mean_length();
  found.stride = config.data.stride;
  found.scores = dataset->scores();
  found.samples_in_all = dataset->validation_size();
  const std::vector<index_t> samples =
      worker::spread(found.samples_in_all, own.samples == 0 ? found.samples_in_all : own.samples);
  found.sample_count = std::ssize(samples);
  Model model(ranks, *reader, config);
  const double begin = seconds_now();
  found.loss = score(model, config, *dataset, samples, ranks.rank() == 0);
  found.seconds = seconds_now() - begin;
  if (ranks.rank() == 0) {
    std::cout << (own.json ? as_json(found, config).dump() + "\n"
                           : safe_text(as_table(found, config)))
              << std::flush;
  }
  return static_cast<int>(std::isfinite(found.nats()) ? ExitCode::done : ExitCode::diverged);
}

}  // namespace weir
