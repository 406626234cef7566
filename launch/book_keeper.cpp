#include "launch/book_keeper.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>

#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "launch/plan/rank_plan.hpp"
#include "launch/terminal/summary.hpp"
#include "worker/models/transformer/cost.hpp"

namespace weir {

namespace {

/// FLOPs of an average sample, padding excluded, computed at the mean length. Exact up to the ends
/// of a sequence, because the cost is linear in the length; too low if the window is longer than a
/// sample.
double flops_a_sample(const Job& job) {
  worker::ModelConfig model = job.config.model;
  model.length = std::llround(job.dataset->mean_length());
  return worker::model_flops_a_sample(model);
}

/// Load imbalance of the servers: bytes per update of the busiest server over the mean.
double bytes_imbalance(const Job& job) {
  double all = 0, most = 0, servers = 0;
  for (const RankPlan& rank : rank_plans(job.config)) {
    if (!rank.is_server) continue;
    const auto bytes = static_cast<double>(rank.pushed_bytes + rank.pulled_bytes);
    all += bytes;
    most = std::max(most, bytes);
    ++servers;
  }
  return servers > 1 ? most * servers / all : kUnknown;
}

}  // namespace

BookKeeper::BookKeeper(const Job& job, const ParameterService& parameters, double gemm_peak,
                       const std::filesystem::path& metrics_file)
    : job_(job),
      parameters_(parameters),
      scores_(job.dataset->scores()),
      gemm_peak_(gemm_peak),
      flops_a_sample_(flops_a_sample(job)),
      file_(metrics_file, layer_groups(job.plan->specs()).names),
      progress_({.mode = job.config.progress,
                 .steps = job.config.train.training.steps,
                 .out = &std::cout}),
      began_at_(seconds_now()),
      step_began_at_(began_at_),
      bytes_imbalance_(bytes_imbalance(job)) {}

void BookKeeper::start(const Directive& directive) {
  first_step_ = directive.step;
  if (directive.order.stop) {
    log_info(text("all of ", job_.config.train.training.steps,
                  " steps are done: the checkpoint has ", directive.step, "; validates only"));
  }
  file_.start(first_step_, job_.config.layout, WEIR_VERSION);
  step_began_at_ = seconds_now();
  waited_before_ = parameters_.waited_seconds();
}

void BookKeeper::step(const Directive& directive) {
  const double now = seconds_now();
  StepMetrics metrics;
  metrics.directive = directive;
  metrics.bits_per_byte =
      worker::score_of(scores_, "bits_per_byte", {.sum = directive.observed.loss, .count = 1});
  metrics.step_seconds = now - step_began_at_;
  metrics.waited_seconds = parameters_.waited_seconds() - waited_before_;
  metrics.pushed_bytes = parameters_.pushed_bytes();
  metrics.pulled_bytes = parameters_.pulled_bytes();
  metrics.servers = server_load(server_times_, directive.observed.server_times, job_.config.layout);
  metrics.servers.bytes_imbalance = bytes_imbalance_;
  server_times_ = directive.observed.server_times;
  const auto batch = static_cast<double>(job_.config.train.training.batch);
  metrics.tokens_per_second = batch * job_.dataset->mean_length() / metrics.step_seconds;
  metrics.flop_fraction = batch * flops_a_sample_ / metrics.step_seconds / gemm_peak_;
  if (job_.config.train.training.precision == Precision::fp16) {
    metrics.loss_scale = directive.order.loss_scale;
  }
  metrics.elapsed_seconds = now - began_at_;
  training_seconds_ += metrics.step_seconds;
  training_waited_seconds_ += metrics.waited_seconds;
  if (directive.rule.skip != SkipReason::none) ++skips_[directive.rule.skip];
  file_.step(metrics);
  progress_.step(metrics);
  newest_ = metrics;
  step_began_at_ = now;
  waited_before_ += metrics.waited_seconds;
}

void BookKeeper::validation_begin(index_t, index_t samples) {
  validation_samples_ = samples;
  progress_.bar("validation", 0, samples);
}

void BookKeeper::validation(index_t step, const worker::Loss& loss) {
  ValidationMetrics metrics;
  metrics.step = step;
  metrics.sample_count = validation_samples_;
  metrics.count = loss.count;
  metrics.loss = loss.sum / static_cast<double>(loss.count);
  metrics.bits_per_byte = worker::score_of(scores_, "bits_per_byte", loss);
  metrics.accuracy = worker::score_of(scores_, "accuracy", loss);
  const double now = seconds_now();
  metrics.seconds = now - step_began_at_;
  metrics.elapsed_seconds = now - began_at_;
  validation_seconds_ += metrics.seconds;
  file_.validation(metrics);
  validation_ = metrics;
  step_began_at_ = now;
  waited_before_ = parameters_.waited_seconds();
}

bool BookKeeper::diverged() const {
  if (validation_) return !std::isfinite(validation_->loss);
  return newest_ && !std::isfinite(newest_->directive.observed.loss);
}

void BookKeeper::summary(SummaryMetrics metrics, const Directive& last, double pipeline_seconds) {
  progress_.end();
  metrics.step = last.step;
  metrics.skipped_count = last.observed.skipped_count;
  metrics.skips = skips_;
  metrics.stopped = !metrics.is_over && last.step < job_.config.train.training.steps;
  if (newest_) {
    const auto steps = static_cast<double>(last.step - first_step_);
    const double batches = steps * static_cast<double>(job_.config.train.training.batch);
    metrics.loss = newest_->directive.observed.loss;
    metrics.bits_per_byte = newest_->bits_per_byte;
    metrics.loss_scale = newest_->loss_scale;
    metrics.tokens_per_second = batches * job_.dataset->mean_length() / training_seconds_;
    metrics.flop_fraction = batches * flops_a_sample_ / training_seconds_ / gemm_peak_;
  }
  if (validation_) {
    metrics.validation_loss = validation_->loss;
    metrics.validation_bits_per_byte = validation_->bits_per_byte;
    metrics.validation_accuracy = validation_->accuracy;
  }
  metrics.diverged = diverged();
  metrics.elapsed_seconds = seconds_now() - began_at_;
  metrics.waited_seconds = training_waited_seconds_;
  metrics.servers = server_load({}, server_times_, job_.config.layout);
  metrics.servers.bytes_imbalance = bytes_imbalance_;
  metrics.validation_seconds = validation_seconds_;
  metrics.compute_seconds = training_seconds_ - training_waited_seconds_ - pipeline_seconds;
  file_.summary(metrics);
  std::cout << summary_table(metrics) << std::flush;
  if (metrics.diverged) {
    log_error(
        text("training diverged: the loss is not finite after step ", metrics.step, ", and ",
             metrics.skipped_count,
             " steps were skipped. Go on from an older checkpoint, or start anew, with a lower "
             "--rate.peak, a longer --rate.warm-up or a --clip.policy"));
  }
}

}  // namespace weir
