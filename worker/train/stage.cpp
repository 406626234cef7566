#include "worker/train/stage.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::worker {

Stage::Stage(StageParts parts)
    : parts_(std::move(parts)),
      units_(*parts_.model, *parts_.holding, parts_.cut, parts_.slots, *parts_.kernels),
      unscaling_(*parts_.model, *parts_.holding, parts_.cut.first_unit) {
  const ContextCut cut = {.context = parts_.contexts->index(),
                          .contexts = parts_.contexts->size(),
                          .fewest_tokens = parts_.model->fewest_tokens(parts_.contexts->size())};
  WEIR_ASSERT(parts_.parameters->weights().dtype() == parts_.model->weight_dtype());
  for (index_t slot = 0; slot < parts_.slots.activations; ++slot) {
    batches_.emplace_back(*parts_.dataset, parts_.cut.micro_batch, cut);
  }
}

Pass Stage::pass(bool training) {
  return {.kernels = *parts_.kernels,
          .shards = *parts_.shards,
          .contexts = *parts_.contexts,
          .weights = parts_.parameters->weights(),
          .gradients = training ? parts_.parameters->gradients() : Vector(),
          .seed = parts_.seed,
          .training = training,
          .loss_factor = loss_factor_};
}

Loss Stage::forward(bool training, const Action& action) {
  const MicroBatch batch = batches_[action.slot].view();
  const BatchShape shape = UnitChain::shape_of(batch);
  if (parts_.stage > 0) {
    copy_frame(*parts_.kernels, *from_previous_, units_.entering(shape));
    parts_.link->release(Direction::forward, action.micro_batch);
  }
  const Pass pass = this->pass(training);
  const Loss loss = units_.forward(
      pass, batch, {.activation = action.slot},
      [&](index_t unit) {
        if (action.micro_batch > 0) return;  // the weights are those of the micro-batch before
        if (training) parts_.parameters->await(unit);
        units_.pack(unit, pass);
      },
      [&](index_t) { parts_.parameters->progress(); });
  to_next_ = units_.leaving(shape);
  return loss;
}

void Stage::backward(const Schedule& schedule, const Action& action) {
  const MicroBatch batch = batches_[action.slot].view();
  const BatchShape shape = UnitChain::shape_of(batch);
  if (parts_.stage + 1 < schedule.stages()) {
    copy_frame(*parts_.kernels, *from_next_, units_.leaving_gradient(shape));
    parts_.link->release(Direction::backward, action.micro_batch);
  }
  const Slots slots = {action.slot, action.gradient_slot};
  if (action.kind == ActionKind::input_gradient) {
    units_.backward_alone(pass(true), batch, slots);
  } else {
    units_.backward(pass(true), batch, slots, after_gradient(action.pushes));
  }
  to_previous_ = units_.entering_gradient(shape);
}

void Stage::weight_gradient(const Action& action) {
  units_.weight_gradient(pass(true), batches_[action.slot].view(),
                         {action.slot, action.gradient_slot}, after_gradient(action.pushes));
}

UnitChain::UnitHook Stage::after_gradient(bool pushes) {
  return [this, pushes](index_t unit) {
    if (pushes) {
      unscaling_.complete(unit, loss_factor_, as<float>(parts_.parameters->gradients()));
      parts_.parameters->ready(unit);
    }
    parts_.parameters->progress();
  };
}

template <class Load>
Loss Stage::run(const Schedule& schedule, bool training, const Load& load) {
  Loss loss;
  for (const Action& action : schedule.actions[parts_.stage]) {
    switch (action.kind) {
      case ActionKind::forward:
        load(action.micro_batch, batches_[action.slot]);
        loss += forward(training, action);
        break;
      case ActionKind::backward:
      case ActionKind::input_gradient:
        backward(schedule, action);
        break;
      case ActionKind::weight_gradient:
        weight_gradient(action);
        break;
      case ActionKind::send_forward:
        parts_.link->send(Direction::forward, action.micro_batch, to_next_);
        break;
      case ActionKind::receive_forward:
        from_previous_ = &parts_.link->receive(Direction::forward, action.micro_batch);
        break;
      case ActionKind::send_backward:
        parts_.link->send(Direction::backward, action.micro_batch, to_previous_);
        break;
      case ActionKind::receive_backward:
        from_next_ = &parts_.link->receive(Direction::backward, action.micro_batch);
        break;
    }
    if (parts_.link != nullptr) parts_.link->progress();
  }
  if (parts_.link != nullptr) parts_.link->end_step();
  return loss;
}

Loss Stage::train(const Schedule& schedule, std::span<const index_t> first_samples,
                  float loss_factor) {
  loss_factor_ = loss_factor;
  parts_.parameters->begin_update();
  return run(schedule, true, [&](index_t micro_batch, Batch& batch) {
    batch.load_training(first_samples[micro_batch]);
  });
}

Loss Stage::evaluate(const Schedule& schedule, std::span<const index_t> samples) {
  return run(schedule, false, [&](index_t micro_batch, Batch& batch) {
    const index_t begin = micro_batch * parts_.cut.micro_batch;
    const index_t count = std::min(std::ssize(samples) - begin, parts_.cut.micro_batch);
    batch.load_validation(samples.subspan(begin, count));
  });
}

}  // namespace weir::worker
