#include "worker/models/classifier_head.hpp"

#include "worker/layers/loss.hpp"

namespace weir::worker {

void ClassifierHeadActivations::take(Pieces& pieces, const StageShape& shape, index_t sequences) {
  norm.take(pieces, shape.rows, shape.config.width);
  pooled = pieces.matrix(sequences, shape.config.width);
  logits_gradient = pieces.matrix(sequences, shape.config.classes);
  pooled_gradient = pieces.matrix(sequences, shape.config.width);
  maximum = pieces.vector(sequences);
  exponential_sum = pieces.vector(sequences);
  target_logit = pieces.vector(sequences);
}

ClassifierHeadUnit::ClassifierHeadUnit(const StageShape& shape, index_t sequences,
                                       const HeldParameters& parameters, index_t slots,
                                       std::shared_ptr<Scratch> scratch)
    : norm_{parameters.vector("final_norm.weight"), parameters.vector("final_norm.bias")},
      classes_{parameters.matrix("classifier.weight"), parameters.vector("classifier.bias")},
      scratch_(std::move(scratch)) {
  for (index_t slot = 0; slot < slots; ++slot) kept_.emplace_back(shape, sequences);
}

Loss ClassifierHeadUnit::forward(const Pass& pass, const MicroBatch& batch, index_t slot,
                                 Matrix x) {
  ClassifierHeadActivations& kept = kept_[static_cast<std::size_t>(slot)];
  const Matrix normed = scratch_->normed.rows(0, batch.rows());
  const Matrix pooled = kept.pooled.rows(0, batch.sequences);
  const Matrix logits = kept.logits_gradient.rows(0, batch.sequences);
  const auto size = static_cast<std::size_t>(batch.sequences);
  const Vector maximum = kept.maximum.first(size);
  const Vector exponential_sum = kept.exponential_sum.first(size);
  const Vector target_logit = kept.target_logit.first(size);

  norm_.forward(pass, x, kept.norm, normed);
  pass.kernels.mean_pool(normed, batch.lengths, batch.first, pooled);
  pass.contexts.sum(pooled.span());
  classes_.forward(pass, pooled, logits);
  pass.kernels.row_maximum(logits, maximum);
  pass.kernels.softmax_sums(logits, maximum, batch.targets, 0, exponential_sum, target_logit);
  const Loss loss = cross_entropy(batch.targets, maximum, exponential_sum, target_logit);
  if (pass.training) {
    pass.kernels.softmax_gradient(logits, maximum, exponential_sum, batch.targets, 0, 1.0F);
  }
  // From the pooling on every context has computed the same: it counts once.
  return pass.contexts.index() == 0 ? loss : Loss{};
}

void ClassifierHeadUnit::backward(const Pass& pass, const MicroBatch& batch, index_t slot,
                                  Matrix gradient) {
  const ClassifierHeadActivations& kept = kept_[static_cast<std::size_t>(slot)];
  const Matrix pooled_gradient = kept.pooled_gradient.rows(0, batch.sequences);
  const Matrix normed_gradient = scratch_->normed.rows(0, batch.rows());
  classes_.backward(pass, kept.logits_gradient.rows(0, batch.sequences), pooled_gradient);
  pass.kernels.mean_pool_backward(pooled_gradient, batch.lengths, batch.first, normed_gradient);
  pass.kernels.fill(gradient.span(), 0);
  norm_.backward(pass, kept.norm, normed_gradient, gradient);
}

void ClassifierHeadUnit::weight_gradient(const Pass& pass, const MicroBatch& batch, index_t slot) {
  if (pass.contexts.index() > 0) return;
  const ClassifierHeadActivations& kept = kept_[static_cast<std::size_t>(slot)];
  classes_.weight_gradient(pass, kept.logits_gradient.rows(0, batch.sequences),
                           kept.pooled.rows(0, batch.sequences));
}

}  // namespace weir::worker
