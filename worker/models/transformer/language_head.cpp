#include "worker/models/transformer/language_head.hpp"

namespace weir::worker {

void LanguageHeadActivations::take(Pieces& pieces, const StageShape& shape) {
  norm.take(pieces, shape.rows, shape.config.width, shape.config.dtype);
  normed_gradient = pieces.matrix(shape.rows, shape.config.width, shape.config.dtype);
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
  const Matrix normed = memory_->scratch.normed.rows(0, batch.rows());
  norm_.forward(pass, in[0], kept.norm, normed);
  return loss_.forward(pass, batch.integers("targets"), normed, memory_->scratch.loss,
                       kept.normed_gradient.rows(0, batch.rows()));
}

void LanguageHeadUnit::backward(const Pass& pass, const MicroBatch& batch, Slots slots,
                                const Frame&, const Frame& in_gradient) {
  const LanguageHeadActivations& kept = kept_[slots.activation];
  const Matrix normed_gradient = kept.normed_gradient.rows(0, batch.rows());
  pass.shards.sum(normed_gradient.flat());
  pass.kernels.fill(in_gradient[0].flat(), 0);
  norm_.backward(pass, kept.norm, normed_gradient, in_gradient[0]);
}

void LanguageHeadUnit::weight_gradient(const Pass&, const MicroBatch&, Slots) {}

std::vector<ProductWeights> LanguageHeadUnit::product_weights(const Pass& pass) const {
  return {loss_.product_weights(pass)};
}

void LanguageHeadUnit::predict(const Pass& pass, const MicroBatch&, const Frame& in,
                               std::span<const index_t> rows, Matrix scores) {
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
