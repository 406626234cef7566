#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/base/safe_text.hpp"
#include "common/base/text.hpp"
#include "launch/checkpoint_changes.hpp"
#include "launch/checkpoint_path.hpp"
#include "launch/command.hpp"
#include "launch/job.hpp"
#include "launch/run/metrics.hpp"
#include "launch/run_paths.hpp"
#include "launch/terminal/progress_bar.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/table.hpp"
#include "launch/trained_model.hpp"
#include "ps/save/resume.hpp"
#include "worker/data/batch.hpp"
#include "worker/data/text/text_dataset.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/train/trainer.hpp"

namespace weir {
namespace {

// Right answers on the validation samples of ListOps without a model: always the most frequent
// value; the best guess from the root's operator alone.
constexpr double kListopsMajority = 0.171;
constexpr double kListopsRootOperator = 0.364;

const std::string kNotFinite =
    "the loss is not finite: training had diverged; score an older checkpoint";

struct EvalConfig {
  index_t samples = 0;
  bool json = false;
};

std::vector<Option> eval_options(RunConfig& config, EvalConfig& own) {
  std::vector<Option> table = {
      {"samples", "", "number of samples to score, evenly spread; 0: all", &own.samples, {0, 1e15}},
      {"json", "", "print one JSON object and nothing else", &own.json},
  };
  for (const Option& option : chosen_options(
           config, {"length", "micro-batch", "threads", "progress", "data.files", "data.validation",
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
  double seconds = 0;

  double nats() const { return loss.sum / static_cast<double>(loss.count); }
  double accuracy() const {
    return static_cast<double>(loss.correct) / static_cast<double>(loss.count);
  }
};

/// Scores micro-batch after micro-batch and shows how far it is.
worker::Loss score(worker::Scorer& model, const RunConfig& config, const worker::Dataset& dataset,
                   std::span<const index_t> samples) {
  ProgressBar progress({.mode = config.progress, .steps = 0, .out = &std::cerr});
  const auto total = static_cast<index_t>(samples.size());
  worker::Batch batch(dataset, config.train.training.micro_batch);
  worker::Loss loss;
  for (index_t done = 0; done < total;) {
    progress.bar("scored", done, total);
    const index_t count = std::min(config.train.training.micro_batch, total - done);
    batch.load_validation(
        samples.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count)));
    loss += model.loss(batch.view());
    done += count;
  }
  progress.bar("scored", total, total);
  progress.end();
  return loss;
}

bool is_text(const RunConfig& config) { return config.data.kind == worker::DataKind::text; }

/// The text of a run that has been moved with it.
void find_data(worker::DataConfig& data, const Manifest& manifest, const fs::path& checkpoint) {
  const auto run = manifest.settings.find("run");
  const fs::path checkpoints = fs::weakly_canonical(checkpoint).parent_path();
  if (run == manifest.settings.end() || checkpoints.filename() != "checkpoints") return;
  std::vector<std::string> remarks;
  for (std::string* const list : {&data.files, &data.validation}) {
    *list = find_data_again(*list, run->second, checkpoints.parent_path(), remarks);
  }
  for (const std::string& remark : remarks) log_info(remark);
}

nlohmann::ordered_json as_json(const Evaluation& found, const RunConfig& config) {
  // JSON is UTF-8, names of files need not be.
  nlohmann::ordered_json json = {{"checkpoint", safe_text(found.checkpoint)},
                                 {"step", found.step},
                                 {"data", safe_text(found.data)},
                                 {"length", config.model.length},
                                 {"samples", found.sample_count},
                                 {"count", found.loss.count},
                                 {"loss", found.nats()}};
  if (!std::isfinite(found.nats())) json["reason"] = kNotFinite;
  if (is_text(config)) {
    json["stride"] = found.stride;
    json["bits_per_byte"] = bits_per_byte(found.nats());
  } else {
    json["accuracy"] = found.accuracy();
    json["majority"] = kListopsMajority;
    json["root_operator"] = kListopsRootOperator;
  }
  json["seconds"] = found.seconds;
  return json;
}

std::string as_table(const Evaluation& found, const RunConfig& config) {
  const auto share = [](double value) { return fixed(100 * value, 1) + " %"; };
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
  if (is_text(config)) {
    table.add({"bits per byte", fixed(bits_per_byte(found.nats()), 4)});
  } else {
    table.add({"accuracy", share(found.accuracy())});
    table.add({"without a model", text(share(kListopsMajority), " by the most frequent value, ",
                                       share(kListopsRootOperator), " by the root's operator")});
  }
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
        "override data and length. A model with learned positions takes no greater length.",
        eval_options(config, own));
    return 0;
  }
  Evaluation found;
  const fs::path folder = checkpoint_at(
      take_path("eval", "a checkpoint or a run folder", eval_options(config, own), arguments));
  const CheckpointReader reader(folder);
  config = config_of(reader);
  find_data(config.data, reader.manifest(), folder);
  const worker::DataConfig recorded = config.data;
  parse_overrides(eval_options(config, own), weir_environment(), arguments);
  if (is_text(config) && config.data.stride == 0) {
    config.data.stride = worker::standard_stride(config.train.length);
  }
  set_blas_threads(static_cast<int>(config.threads));

  worker::Scorer model = scorer_of(reader, config);
  const auto dataset =
      worker::make_dataset(config.data, config.train.length, config.train.training.random_seed());
  for (const std::string& warning : dataset->warnings()) log_warning(warning);
  const bool is_chosen = config.data.files != recorded.files ||
                         config.data.validation != recorded.validation ||
                         config.data.held_out != recorded.held_out;
  warn_of_scored_text(reader.manifest(), *dataset, is_chosen);
  found.checkpoint = folder.string();
  found.step = ps::steps_done(reader.manifest());
  found.data = dataset->describe();
  found.mean_length = dataset->mean_length();
  found.stride = config.data.stride;
  found.samples_in_all = dataset->validation_size();
  const std::vector<index_t> samples =
      worker::spread(found.samples_in_all, own.samples == 0 ? found.samples_in_all : own.samples);
  found.sample_count = static_cast<index_t>(samples.size());
  const double begin = seconds_now();
  found.loss = score(model, config, *dataset, samples);
  found.seconds = seconds_now() - begin;
  std::cout << (own.json ? as_json(found, config).dump() + "\n"
                         : safe_text(as_table(found, config)))
            << std::flush;
  return static_cast<int>(std::isfinite(found.nats()) ? ExitCode::done : ExitCode::diverged);
}

}  // namespace weir
