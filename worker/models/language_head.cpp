#include "worker/models/language_head.hpp"

namespace weir::worker {

void LanguageHeadActivations::take(Pieces& pieces, const StageShape& shape) {
  norm.take(pieces, shape.rows, shape.config.width);
  normed_gradient = pieces.matrix(shape.rows, shape.config.width);
}

LanguageHeadUnit::LanguageHeadUnit(const StageShape& shape, const HeldParameters& parameters,
                                   index_t slots, std::shared_ptr<Scratch> scratch)
    : norm_{parameters.vector("final_norm.weight"), parameters.vector("final_norm.bias")},
      scratch_(std::move(scratch)) {
  const char* const name = shape.config.tied ? "embedding.weight" : "output.weight";
  loss_ = {parameters.matrix(name), parameters.first_row(name)};
  for (index_t slot = 0; slot < slots; ++slot) {
    kept_.emplace_back(shape.kernels->memory(), shape);
  }
}

Loss LanguageHeadUnit::forward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix x) {
  LanguageHeadActivations& kept = kept_[static_cast<std::size_t>(slot)];
  const Matrix normed = scratch_->normed.rows(0, batch.rows());
  norm_.forward(pass, x, kept.norm, normed);
  return loss_.forward(pass, batch.targets, normed, scratch_->loss,
                       kept.normed_gradient.rows(0, batch.rows()));
}

void LanguageHeadUnit::backward(const Pass& pass, const MicroBatch& batch, index_t slot,
                                Matrix gradient) {
  const LanguageHeadActivations& kept = kept_[static_cast<std::size_t>(slot)];
  const Matrix normed_gradient = kept.normed_gradient.rows(0, batch.rows());
  pass.shards.sum(normed_gradient.flat());
  pass.kernels.fill(gradient.flat(), 0);
  norm_.backward(pass, kept.norm, normed_gradient, gradient);
}

void LanguageHeadUnit::weight_gradient(const Pass& /*pass*/, const MicroBatch& /*batch*/,
                                       index_t /*slot*/) {}

void LanguageHeadUnit::logits(const Pass& pass, ConstMatrix x, Matrix out) {
  const Matrix normed = scratch_->normed.rows(0, x.extent(0));
  norm_.forward(pass, x, kept_.front().norm, normed);
  if (out.extent(1) > 0) {
    pass.kernels.multiply_transposed(normed, loss_.weight.weights(pass), {}, out);
  }
}

}  // namespace weir::worker
