#include "worker/models/transformer/embedding.hpp"

#include "common/number/random.hpp"

namespace weir::worker {

EmbeddingUnit::EmbeddingUnit(const StageShape& shape, const HeldParameters& parameters,
                             const SlotCounts& slots, std::shared_ptr<const StageMemory> memory)
    : embedding_{.table = parameters.matrix("embedding.weight"),
                 .first_row = parameters.first_row("embedding.weight"),
                 .positions = std::nullopt},
      dropout_{shape.config.dropout, stream_of("embedding.dropout")},
      gradients_(shape, slots.gradients, {memory->gradients.attention_branch}),
      memory_(std::move(memory)) {
  if (shape.config.positions == Positions::learned) {
    embedding_.positions = parameters.matrix("positions.weight");
  }
}

Loss EmbeddingUnit::forward(const Pass& pass, const MicroBatch& batch, Slots, const Frame&,
                            const Frame& out) {
  const UnitScratch& scratch = memory_->scratch;
  const Matrix all = scratch.room_for(pass, batch, out[0]);
  embedding_.forward(pass, batch, all);
  scratch.keep(pass, all, out[0]);
  dropout_.apply(pass, batch, out[0]);
  return {};
}

void EmbeddingUnit::backward(const Pass& pass, const MicroBatch& batch, Slots slots,
                             const Frame& out_gradient, const Frame&) {
  const Matrix kept = gradients_[slots.gradient].output.rows(0, out_gradient[0].extent(0));
  pass.kernels.copy(out_gradient[0].flat(), kept.flat());
  dropout_.apply(pass, batch, kept);
}

void EmbeddingUnit::weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots) {
  const index_t own_rows = pass.shards.own_rows(batch.rows()).count();
  const Matrix kept = gradients_[slots.gradient].output.rows(0, own_rows);
  embedding_.weight_gradient(pass, batch, memory_->scratch.gathered(pass, batch, kept));
}

}  // namespace weir::worker
