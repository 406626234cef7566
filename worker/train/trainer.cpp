#include "worker/train/trainer.hpp"

#include <algorithm>

#include "common/base/machine.hpp"
#include "worker/score/whole_loss.hpp"

namespace weir::worker {

std::vector<index_t> spread(index_t size, index_t count) {
  count = std::min(size, count);
  std::vector<index_t> samples;
  for (index_t index = 0; index < count; ++index) samples.push_back(index * size / count);
  return samples;
}

Trainer::Trainer(TrainerParts parts)
    : parts_(std::move(parts)),
      loss_terms_(loss_terms(parts_.dataset->shape(), parts_.config.training.batch)),
      injection_(parse_injection(parts_.config.inject)) {}

Directive Trainer::run() {
  ParameterService& parameters = *parts_.parameters;
  const bool reports = parts_.place.stage + 1 == parts_.layout.stages && parts_.place.shard == 0;
  Directive directive = parameters.start();
  for (Observer* const each : parts_.observers) each->start(directive);
  while (!directive.order.stop) {
    take_share(directive);
    const double slept = be_slow(directive.step + 1);
    const double begin = seconds_now() - parameters.waited_seconds();
    const Loss loss =
        parts_.stage->train(schedule_, first_samples(directive), loss_factor_of(directive));
    step_seconds_ = seconds_now() - parameters.waited_seconds() - begin;
    if (reports) {
      parameters.report({.step = directive.step + 1,
                         .replica = parts_.place.replica,
                         .context = parts_.place.context,
                         .loss_sum = loss.sum,
                         .count = loss.count,
                         .seconds = step_seconds_ + slept,
                         .loss_scale = directive.order.loss_scale});
    }
    directive = parameters.directive();
    for (Observer* const each : parts_.observers) each->step(directive);
    const index_t every = parts_.config.training.eval_every;
    if (every > 0 && directive.step % every == 0 && !directive.order.stop) {
      validate_at(directive, parts_.config.eval_samples);
    }
  }
  if (directive.step >= parts_.config.training.steps) {
    validate_at(directive, parts_.dataset->validation_size());
  }
  parameters.await_all();
  parameters.finish();
  return directive;
}

std::vector<index_t> Trainer::first_samples(const Directive& directive) const {
  std::vector<index_t> firsts;
  for (index_t index = share_.begin; index < share_.end; ++index) {
    firsts.push_back(first_sample(directive.replicas.again, directive.cursor,
                                  parts_.config.training.micro_batch, index));
  }
  return firsts;
}

float Trainer::loss_factor_of(const Directive& directive) const {
  return loss_factor(parts_.config.training.precision, directive.order.loss_scale, loss_terms_);
}

double Trainer::be_slow(index_t step) {
  const double seconds = injected_seconds(injection_, parts_.place.replica, step,
                                          parts_.config.training.random_seed(), step_seconds_);
  for (const double end = seconds_now() + seconds; seconds_now() < end;) {
    if (!parts_.parameters->progress()) sleep_microseconds(500);
  }
  return seconds;
}

void Trainer::take_share(const Directive& directive) {
  const Interval share = share_of(directive.replicas.shares, parts_.place.replica);
  if (share.count() != share_.count()) {
    schedule_ = schedule_of(parts_.config, parts_.layout, share.count());
  }
  share_ = share;
}

void Trainer::validate_at(const Directive& directive, index_t sample_count) {
  if (parts_.dataset->validation_size() == 0) return;
  parts_.parameters->await_all();
  const std::vector<index_t> samples = spread(parts_.dataset->validation_size(), sample_count);
  for (Observer* const each : parts_.observers) {
    each->validation_begin(directive.step, std::ssize(samples));
  }
  const Loss loss = validate(samples);
  for (Observer* const each : parts_.observers) each->validation(directive.step, loss);
}

Loss Trainer::validate(std::span<const index_t> samples) {
  // Replica d of D takes an even run of the samples; each is a pipeline of its own.
  const auto [begin, end] =
      share_of(std::ssize(samples), parts_.place.replica, parts_.layout.replicas);
  const index_t micro_batch = parts_.config.training.micro_batch;
  const index_t micro_batches = (end - begin + micro_batch - 1) / micro_batch;
  Loss loss;
  if (micro_batches > 0) {
    loss = parts_.stage->evaluate(
        make_forward_only(pipeline_of(parts_.config, parts_.layout), micro_batches),
        samples.subspan(begin, end - begin));
  }
  return whole_loss(loss, parts_.place, parts_.sum_over_workers);
}

}  // namespace weir::worker
