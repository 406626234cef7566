#include "worker/train/stage.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/base/trace.hpp"

namespace weir::worker {

Stage::Stage(StageParts parts)
    : parts_(std::move(parts)),
      unscaling_(*parts_.model, *parts_.holding, parts_.chunks.front().cut.first_unit) {
  WEIR_ASSERT(parts_.parameters->weights().dtype() == parts_.model->weight_dtype());
  for (const ChunkParts& chunk : parts_.chunks) chunks_.push_back(make_chunk(chunk));
}

Stage::Chunk Stage::make_chunk(const ChunkParts& parts) const {
  const ContextCut cut = {.context = parts_.contexts->index(),
                          .contexts = parts_.contexts->size(),
                          .fewest_tokens = parts_.model->fewest_tokens(parts_.contexts->size())};
  Chunk chunk = {.units = {*parts_.model, *parts_.holding, parts.cut, parts.slots, *parts_.kernels},
                 .batches = {}};
  for (index_t slot = 0; slot < parts.slots.activations; ++slot) {
    chunk.batches.emplace_back(*parts_.dataset, parts.cut.micro_batch, cut);
  }
  return chunk;
}

Stage::Chunk& Stage::chunk_of(const Schedule& schedule, const Action& action) {
  return chunks_[static_cast<std::size_t>(action.chunk / schedule.stages())];
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

Loss Stage::forward(bool training, const Action& action, Chunk& chunk) {
  const MicroBatch batch = chunk.batches[action.slot].view();
  const BatchShape shape = UnitChain::shape_of(batch, *parts_.shards);
  if (action.chunk > 0) {
    copy_frame(*parts_.kernels, *chunk.from_previous, chunk.units.entering(shape));
    parts_.link->release(Direction::forward, action.chunk, action.micro_batch);
  }
  const Pass pass = this->pass(training);
  const Loss loss = chunk.units.forward(
      pass, batch, {.activation = action.slot},
      [&](index_t unit) {
        if (action.micro_batch > 0) return;  // the weights are those of the micro-batch before
        if (training) parts_.parameters->await(unit);
        chunk.units.pack(unit, pass);
      },
      [&](index_t) { parts_.parameters->progress(); });
  chunk.to_next = chunk.units.leaving(shape);
  return loss;
}

void Stage::backward(const Schedule& schedule, const Action& action, Chunk& chunk) {
  const MicroBatch batch = chunk.batches[action.slot].view();
  const BatchShape shape = UnitChain::shape_of(batch, *parts_.shards);
  if (action.chunk + 1 < schedule.chunks()) {
    copy_frame(*parts_.kernels, *chunk.from_next, chunk.units.leaving_gradient(shape));
    parts_.link->release(Direction::backward, action.chunk, action.micro_batch);
  }
  const Slots slots = {action.slot, action.gradient_slot};
  if (action.kind == ActionKind::input_gradient) {
    chunk.units.backward_alone(pass(true), batch, slots);
  } else {
    chunk.units.backward(pass(true), batch, slots, after_gradient(action.pushes));
  }
  chunk.to_previous = chunk.units.entering_gradient(shape);
}

void Stage::weight_gradient(const Action& action, Chunk& chunk) {
  chunk.units.weight_gradient(pass(true), chunk.batches[action.slot].view(),
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
    Chunk& chunk = chunk_of(schedule, action);
    const Traced traced({.kind = SpanKind::action,
                         .what = name_of(action.kind),
                         .chunk = static_cast<std::int32_t>(action.chunk),
                         .micro_batch = static_cast<std::int32_t>(action.micro_batch)});
    switch (action.kind) {
      case ActionKind::forward:
        load(action.micro_batch, chunk.batches[action.slot]);
        loss += forward(training, action, chunk);
        break;
      case ActionKind::backward:
      case ActionKind::input_gradient:
        backward(schedule, action, chunk);
        break;
      case ActionKind::weight_gradient:
        weight_gradient(action, chunk);
        break;
      case ActionKind::send_forward:
        parts_.link->send(Direction::forward, action.chunk, action.micro_batch, chunk.to_next);
        break;
      case ActionKind::receive_forward:
        chunk.from_previous =
            &parts_.link->receive(Direction::forward, action.chunk, action.micro_batch);
        break;
      case ActionKind::send_backward:
        parts_.link->send(Direction::backward, action.chunk, action.micro_batch, chunk.to_previous);
        break;
      case ActionKind::receive_backward:
        chunk.from_next =
            &parts_.link->receive(Direction::backward, action.chunk, action.micro_batch);
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
    const index_t size = parts_.chunks.front().cut.micro_batch;
    const index_t begin = micro_batch * size;
    const index_t count = std::min(std::ssize(samples) - begin, size);
    batch.load_validation(samples.subspan(begin, count));
  });
}

}  // namespace weir::worker
