#include "worker/train/stage.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::worker {

Stage::Stage(StageParts parts)
    : parts_(std::move(parts)),
      output_(parts_.micro_batch *
              longest_part(parts_.dataset->sample_length(), parts_.contexts->size()) *
              parts_.width),
      gradient_(output_.size()) {
  const ContextCut cut = {.context = parts_.contexts->index(),
                          .contexts = parts_.contexts->size(),
                          .fewest_tokens = parts_.fewest_tokens};
  for (index_t slot = 0; slot < parts_.activation_slots; ++slot) {
    batches_.emplace_back(*parts_.dataset, parts_.micro_batch, cut);
  }
}

Pass Stage::pass(bool training) {
  return {.kernels = *parts_.kernels,
          .shards = *parts_.shards,
          .contexts = *parts_.contexts,
          .weights = parts_.parameters->weights(),
          .gradients = training ? parts_.parameters->gradients() : std::span<float>(),
          .seed = parts_.seed,
          .training = training};
}

Matrix Stage::rows_of(Buffer& buffer, const MicroBatch& batch) {
  return Matrix(Vector(buffer.span()), batch.rows(), parts_.width);
}

Loss Stage::forward(bool training, const Action& action) {
  const MicroBatch batch = batches_[static_cast<std::size_t>(action.slot)].view();
  const Matrix x = rows_of(output_, batch);
  if (parts_.stage > 0) {
    parts_.kernels->copy(ConstVector(received_forward_).first(x.size()), x.flat());
    parts_.link->release(Direction::forward, action.micro_batch);
  }
  const Pass with = pass(training);
  Loss loss;
  index_t unit = parts_.first_unit;
  for (const auto& each : parts_.units) {
    if (training && action.micro_batch == 0) parts_.parameters->await(unit);
    loss += each->forward(with, batch, action.slot, x);
    parts_.parameters->progress();
    ++unit;
  }
  return loss;
}

void Stage::backward(const Schedule& schedule, const Action& action) {
  const MicroBatch batch = batches_[static_cast<std::size_t>(action.slot)].view();
  const Matrix gradient = rows_of(gradient_, batch);
  if (parts_.stage + 1 < schedule.stages()) {
    parts_.kernels->copy(ConstVector(received_backward_).first(gradient.size()), gradient.flat());
    parts_.link->release(Direction::backward, action.micro_batch);
  }
  const Pass with = pass(true);
  const bool last = action.micro_batch + 1 == schedule.micro_batches;
  for (std::size_t index = parts_.units.size(); index-- > 0;) {
    parts_.units[index]->backward(with, batch, action.slot, gradient);
    parts_.units[index]->weight_gradient(with, batch, action.slot);
    if (last) parts_.parameters->ready(parts_.first_unit + static_cast<index_t>(index));
    parts_.parameters->progress();
  }
}

template <class Load>
Loss Stage::run(const Schedule& schedule, bool training, const Load& load) {
  Loss loss;
  for (const Action& action : schedule.actions[static_cast<std::size_t>(parts_.stage)]) {
    const auto frame = [&](Buffer& buffer) { return std::span<const float>(buffer.span()); };
    switch (action.kind) {
      case ActionKind::forward:
        load(action.micro_batch, batches_[static_cast<std::size_t>(action.slot)]);
        loss += forward(training, action);
        break;
      case ActionKind::backward:
        backward(schedule, action);
        break;
      case ActionKind::send_forward:
        parts_.link->send(Direction::forward, action.micro_batch, frame(output_));
        break;
      case ActionKind::receive_forward:
        received_forward_ = parts_.link->receive(Direction::forward, action.micro_batch);
        break;
      case ActionKind::send_backward:
        parts_.link->send(Direction::backward, action.micro_batch, frame(gradient_));
        break;
      case ActionKind::receive_backward:
        received_backward_ = parts_.link->receive(Direction::backward, action.micro_batch);
        break;
    }
    if (parts_.link != nullptr) parts_.link->progress();
  }
  if (parts_.link != nullptr) parts_.link->end_step();
  return loss;
}

Loss Stage::train(const Schedule& schedule, std::span<const index_t> first_samples) {
  parts_.parameters->begin_update();
  return run(schedule, true, [&](index_t micro_batch, Batch& batch) {
    batch.load_training(first_samples[static_cast<std::size_t>(micro_batch)]);
  });
}

Loss Stage::evaluate(const Schedule& schedule, std::span<const index_t> samples) {
  return run(schedule, false, [&](index_t micro_batch, Batch& batch) {
    const auto begin = static_cast<std::size_t>(micro_batch * parts_.micro_batch);
    const auto count =
        std::min(samples.size() - begin, static_cast<std::size_t>(parts_.micro_batch));
    batch.load_validation(samples.subspan(begin, count));
  });
}

}  // namespace weir::worker
