#include "worker/models/classifier_head.hpp"

#include "worker/layers/loss.hpp"

namespace weir::worker {

void ClassifierHeadActivations::take(Pieces& pieces, const StageShape& shape, index_t sequences) {
  norm.take(pieces, shape.rows, shape.config.width);
  pooled = pieces.matrix(sequences, shape.config.pooled_width());
  logits_gradient = pieces.matrix(sequences, shape.config.classes);
  pooled_gradient = pieces.matrix(sequences, shape.config.pooled_width());
  maximum = pieces.vector(sequences);
  exponential_sum = pieces.vector(sequences);
  target_logit = pieces.vector(sequences);
}

ClassifierHeadUnit::ClassifierHeadUnit(const StageShape& shape, index_t sequences,
                                       const HeldParameters& parameters, index_t slots,
                                       std::shared_ptr<Scratch> scratch)
    : pooling_(shape.config.pooling),
      first_local_(shape.config.sparsity().globals.first_other()),
      norm_{parameters.vector("final_norm.weight"), parameters.vector("final_norm.bias")},
      classes_{parameters.matrix("classifier.weight"), parameters.vector("classifier.bias")},
      scratch_(std::move(scratch)) {
  for (index_t slot = 0; slot < slots; ++slot) {
    kept_.emplace_back(shape.kernels->memory(), shape, sequences);
  }
}

namespace {

/// The rows that Pooling::ends puts side by side; -1 if another context has them.
struct Ends {
  index_t first;
  index_t last;

  Ends(const MicroBatch& batch, index_t sequence, index_t first_local) {
    const index_t length = batch.lengths[static_cast<std::size_t>(sequence)];
    const index_t end = std::max<index_t>(length - 1, 0);
    first = batch.row_of(sequence, std::min(first_local, end));
    last = batch.row_of(sequence, end);
  }
};

}  // namespace

void ClassifierHeadUnit::pool(const Pass& pass, const MicroBatch& batch, ConstMatrix x,
                              Matrix pooled) const {
  if (pooling_ == Pooling::mean) {
    pass.kernels.mean_pool(x, batch.lengths, batch.first, pooled);
  } else {
    const index_t width = x.extent(1);
    pass.kernels.fill(pooled.flat(), 0);
    for (index_t sequence = 0; sequence < batch.sequences; ++sequence) {
      const Ends ends(batch, sequence, first_local_);
      const Vector row = pooled[sequence];
      if (ends.first >= 0) pass.kernels.copy(x[ends.first], row.first(width));
      if (ends.last >= 0) pass.kernels.copy(x[ends.last], row.last(width));
    }
  }
  pass.contexts.sum(pooled.flat());
}

void ClassifierHeadUnit::pool_backward(const Pass& pass, const MicroBatch& batch,
                                       ConstMatrix pooled_gradient, Matrix x_gradient) const {
  if (pooling_ == Pooling::mean) {
    return pass.kernels.mean_pool_backward(pooled_gradient, batch.lengths, batch.first, x_gradient);
  }
  const index_t width = x_gradient.extent(1);
  pass.kernels.fill(x_gradient.flat(), 0);
  for (index_t sequence = 0; sequence < batch.sequences; ++sequence) {
    const Ends ends(batch, sequence, first_local_);  // one row twice if the sequence is that short
    const ConstVector row = pooled_gradient[sequence];
    if (ends.first >= 0) pass.kernels.add(row.first(width), x_gradient[ends.first]);
    if (ends.last >= 0) pass.kernels.add(row.last(width), x_gradient[ends.last]);
  }
}

Loss ClassifierHeadUnit::forward(const Pass& pass, const MicroBatch& batch, index_t slot,
                                 Matrix x) {
  ClassifierHeadActivations& kept = kept_[static_cast<std::size_t>(slot)];
  const Matrix normed = scratch_->normed.rows(0, batch.rows());
  const Matrix pooled = kept.pooled.rows(0, batch.sequences);
  const Matrix logits = kept.logits_gradient.rows(0, batch.sequences);
  const index_t size = batch.sequences;
  const Vector maximum = kept.maximum.first(size);
  const Vector exponential_sum = kept.exponential_sum.first(size);
  const Vector target_logit = kept.target_logit.first(size);

  norm_.forward(pass, x, kept.norm, normed);
  pool(pass, batch, normed, pooled);
  classes_.forward(pass, pooled, logits);
  pass.kernels.row_maximum(logits, maximum);
  pass.kernels.softmax_sums(logits, maximum, batch.targets, 0, exponential_sum, target_logit);
  const Loss loss =
      pass.kernels.cross_entropy(batch.targets, maximum, exponential_sum, target_logit);
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
  pool_backward(pass, batch, pooled_gradient, normed_gradient);
  pass.kernels.fill(gradient.flat(), 0);
  norm_.backward(pass, kept.norm, normed_gradient, gradient);
}

void ClassifierHeadUnit::weight_gradient(const Pass& pass, const MicroBatch& batch, index_t slot) {
  if (pass.contexts.index() > 0) return;
  const ClassifierHeadActivations& kept = kept_[static_cast<std::size_t>(slot)];
  classes_.weight_gradient(pass, kept.logits_gradient.rows(0, batch.sequences),
                           kept.pooled.rows(0, batch.sequences));
}

}  // namespace weir::worker
