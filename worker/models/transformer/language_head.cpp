#include "worker/models/transformer/language_head.hpp"

#include "common/base/error.hpp"

namespace weir::worker {

void LanguageHeadActivations::take(Pieces& pieces, const StageShape& shape) {
  norm.take(pieces, shape.own_rows, shape.config.width, shape.config.dtype);
  normed_gradient = pieces.matrix(shape.own_rows, shape.config.width, shape.config.dtype);
}

LanguageHeadUnit::LanguageHeadUnit(const StageShape& shape, const HeldParameters& parameters,
                                   const SlotCounts& slots,
                                   std::shared_ptr<const StageMemory> memory)
    : norm_{parameters.vector("final_norm.weight"), parameters.vector("final_norm.bias")},
      memory_(std::move(memory)) {
  const char* const name = shape.config.tied ? "embedding.weight" : "output.weight";
  loss_ = {parameters.matrix(name), parameters.first_row(name)};
  for (index_t slot = 0; slot < slots.activations; ++slot) {
    kept_.emplace_back(shape.kernels->memory(), shape);
  }
}

Loss LanguageHeadUnit::forward(const Pass& pass, const MicroBatch& batch, Slots slots,
                               const Frame& in, const Frame&) {
  const LanguageHeadActivations& kept = kept_[slots.activation];
  const UnitScratch& scratch = memory_->scratch;
  const Matrix normed = scratch.normed.rows(0, batch.rows());
  norm_.forward(pass, in[0], kept.norm, pass.shards.own_rows(normed));
  pass.shards.gather_rows(normed);
  const Matrix own_gradient = kept.normed_gradient.rows(0, in[0].extent(0));
  const Matrix gradient = scratch.room_for(pass, batch, own_gradient);
  const Loss loss = loss_.forward(pass, batch.integers("targets"), normed, scratch.loss, gradient);
  if (pass.training) {
    pass.shards.sum_rows(gradient);
    scratch.keep(pass, gradient, own_gradient);
  }
  return loss;
}

void LanguageHeadUnit::backward(const Pass& pass, const MicroBatch&, Slots slots, const Frame&,
                                const Frame& in_gradient) {
  const LanguageHeadActivations& kept = kept_[slots.activation];
  pass.kernels.fill(in_gradient[0].flat(), 0);
  norm_.backward(pass, kept.norm, kept.normed_gradient.rows(0, in_gradient[0].extent(0)),
                 in_gradient[0]);
}

void LanguageHeadUnit::weight_gradient(const Pass&, const MicroBatch&, Slots) {}

std::vector<ProductWeights> LanguageHeadUnit::product_weights(const Pass& pass) const {
  return {loss_.product_weights(pass)};
}

void LanguageHeadUnit::predict(const Pass& pass, const MicroBatch&, const Frame& in,
                               std::span<const index_t> rows, Matrix scores) {
  WEIR_ASSERT(pass.shards.size() == 1);  // which has all of `in`
  if (rows.empty()) return;
  const index_t count = std::ssize(rows);
  const Matrix chosen = memory_->scratch.branch.rows(0, count);
  const Matrix normed = memory_->scratch.normed.rows(0, count);
  pass.kernels.gather_rows(in[0], rows, 0, chosen);
  norm_.forward(pass, chosen, kept_.front().norm, normed);
  if (scores.extent(1) > 0) {
    pass.kernels.multiply_transposed(normed, loss_.weight.weights(pass), {}, scores);
  }
}

}  // namespace weir::worker
