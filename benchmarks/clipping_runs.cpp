#include "benchmarks/clipping_runs.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "benchmarks/job.hpp"
#include "common/base/error.hpp"
#include "common/base/text.hpp"
#include "launch/run/run_log.hpp"
#include "worker/train/inject.hpp"

namespace weir::benchmark {
namespace {

using Words = std::vector<std::string>;

/// From step 100 on, each batch with p = 1 %: random targets, gradients times 30.
const FaultCase kPublished = {"bad 1 %", "bad=1%:30x", "bad=1%:1e39x"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Curve curve_of(const std::filesystem::path& run, const CurveJob& job) {
  const RunLog log = read_run_log(run / "metrics.jsonl");
  const std::vector<double>& losses = log.steps.column("loss");
  if (losses.empty() || !std::isfinite(losses.front())) {
    throw Error(text("the first step has no loss; see ", run.string()));
  }
  const double untrained = losses.front();
  const auto faults = worker::parse_injection(job.setting->faults[job.fault].inject);
  Curve curve;
  double mean = untrained;
  std::size_t row = 0;
  for (index_t step = 1; step <= job.setting->steps; ++step) {
    double loss = untrained;  // that of steps that there are none of
    if (row < losses.size() && log.steps.steps[row] == step) loss = losses[row++];
    if (!std::isfinite(loss)) loss = untrained;
    // A bad batch has a bad loss, whatever the model.
    if (!has_random_targets(faults, step, static_cast<std::uint64_t>(job.seed))) {
      mean = 0.9 * mean + 0.1 * std::min(loss, untrained);
    }
    curve.loss.push_back(mean);
  }
  const auto summary = log.summary.find("validation_loss");
  const bool ended = summary != log.summary.end() && std::isfinite(summary->second);
  curve.diverged = !ended || summary->second > untrained;
  curve.validation = curve.diverged ? untrained : summary->second;
  curve.skipped = log.steps.column("skipped_count").back();
  return curve;
}

index_t struck_steps(const CurveJob& job) {
  const auto faults = worker::parse_injection(job.setting->faults[job.fault].oracle).faults;
  index_t count = 0;
  for (index_t step = 1; step <= job.setting->steps; ++step) {
    count += strikes(faults.front(), step, static_cast<std::uint64_t>(job.seed)) ? 1 : 0;
  }
  return count;
}

Curve run_curve(const CurveJob& job) {
  const Setting& setting = *job.setting;
  Words words = with(setting.options, setting.optimizers[job.optimizer].options);
  const bool by_oracle = job.policy == kOracle;
  words.push_back("--clip.policy=" + (by_oracle ? "fixed" : job.policy));
  words.push_back(text("--steps=", setting.steps));
  words.push_back(text("--seed=", job.seed));
  const FaultCase& fault = setting.faults[job.fault];
  const std::string& inject = by_oracle ? fault.oracle : fault.inject;
  if (!inject.empty()) words.push_back("--inject=" + inject);
  const ScratchFolder scratch;
  const auto run = scratch.path() / "run";
  try {
    train(1, words, run);
  } catch (const Error&) {  // it may have diverged; what it wrote until then tells
    if (!std::filesystem::exists(run / "metrics.jsonl")) throw;
  }
  Curve curve = curve_of(run, job);
  if (by_oracle && curve.skipped != static_cast<double>(struck_steps(job))) {
    throw Error(text("the oracle skipped ", curve.skipped, " steps, not just the ",
                     struck_steps(job), " faulty ones"));
  }
  return curve;
}

}  // namespace

std::vector<Setting> clipping_settings(const std::string& corpus, bool quick) {
  const auto adamw = [](const char* rate) {
    return TunedOptimizer{"AdamW", {"--optimizer.kind=adamw", text("--rate.peak=", rate)}};
  };
  const auto sgd = [](const char* rate) {
    return TunedOptimizer{
        "SGD", {"--optimizer.kind=sgd", text("--rate.peak=", rate), "--optimizer.weight-decay=0"}};
  };
  const Words common = {"--rate.schedule=constant", "--checkpoint-every=0"};
  const index_t steps = quick ? 102 : 600;
  const index_t middle = steps / 2;
  Setting text_model = {
      .name = "text",
      .options = with(
          common, {"--data.files=" + corpus, text("--data.held-out=", quick ? 1000 : 16384),
                   text("--model.layers=", quick ? 1 : 2), text("--model.width=", quick ? 16 : 64),
                   "--model.heads=4", text("--model.feed-forward=", quick ? 32 : 256),
                   "--length=64", text("--batch=", quick ? 4 : 16),
                   text("--micro-batch=", quick ? 4 : 16), "--rate.warm-up=50"}),
      .steps = steps,
      .optimizers = {adamw("3e-3"), sgd("0.5")},
      .faults = {{"clean", ""},
                 kPublished,
                 {"tensor x1000", "tensor=1%:1000x", "tensor=1%:1e39x"},
                 {"bit flip", "flip=1%"},
                 {"20 bad in a row", text("bad=", middle, "-", middle + 19, ":30x"),
                  text("bad=", middle, "-", middle + 19, ":1e39x")},
                 {"all x4", text("scale=", middle, "-:4x")}}};
  if (quick) {
    text_model.optimizers.pop_back();
    text_model.faults = {{"clean", ""}, {"bad", "bad=101-101:30x", "bad=101-101:1e39x"}};
    return {text_model};
  }
  const Setting listops = {
      .name = "ListOps",
      .options = with(
          common, {text("--config=", WEIR_CONFIGS, "/listops.ini"), "--eval-every=0",
                   "--model.layers=1", "--model.width=16", "--model.heads=1",
                   "--model.feed-forward=32", "--batch=4", "--micro-batch=1", "--rate.warm-up=30"}),
      .steps = 300,
      .optimizers = {adamw("3e-3"), sgd("0.03")},
      .faults = {{"clean", ""}, kPublished}};
  return {text_model, listops};
}

void run_curves(const std::vector<CurveJob>& jobs, index_t at_once,
                const std::function<void(std::size_t, Curve)>& done) {
  std::mutex one_at_a_time;
  side_by_side(jobs.size(), at_once, [&](std::size_t at) {
    Curve curve = run_curve(jobs[at]);
    const std::lock_guard lock(one_at_a_time);
    done(at, std::move(curve));
  });
}

}  // namespace weir::benchmark
