#include "worker/models/transformer/classifier_head.hpp"

#include "worker/layers/loss.hpp"

namespace weir::worker {

void ClassifierHeadActivations::take(Pieces& pieces, const StageShape& shape, index_t sequences) {
  const Dtype dtype = shape.config.dtype;
  norm.take(pieces, shape.own_rows, shape.config.width, dtype);
  pooled = pieces.matrix(sequences, shape.config.pooled_width(), dtype);
  logits_gradient = pieces.matrix(sequences, shape.config.classes, dtype);
  pooled_gradient = pieces.matrix(sequences, shape.config.pooled_width(), dtype);
  maximum = pieces.vector(sequences);
  exponential_sum = pieces.vector(sequences);
  target_logit = pieces.vector(sequences);
}

ClassifierHeadUnit::ClassifierHeadUnit(const StageShape& shape, index_t sequences,
                                       const HeldParameters& parameters, const SlotCounts& slots,
                                       std::shared_ptr<const StageMemory> memory)
    : pooling_(shape.config.pooling),
      first_local_(shape.config.sparsity().globals.first_other()),
      norm_{parameters.vector("final_norm.weight"), parameters.vector("final_norm.bias")},
      classes_{parameters.matrix("classifier.weight"), parameters.vector("classifier.bias")},
      memory_(std::move(memory)) {
  for (index_t slot = 0; slot < slots.activations; ++slot) {
    kept_.emplace_back(shape.kernels->memory(), shape, sequences);
  }
}

namespace {

/// The rows that Pooling::ends puts side by side, two of each sequence; -1 if another context has
/// them. One row twice if the sequence is that short.
std::vector<index_t> end_rows(const MicroBatch& batch, index_t first_local) {
  std::vector<index_t> rows;
  for (index_t sequence = 0; sequence < batch.sequences; ++sequence) {
    const index_t length = batch.lengths[sequence];
    const index_t end = std::max<index_t>(length - 1, 0);
    rows.push_back(batch.row_of(sequence, std::min(first_local, end)));
    rows.push_back(batch.row_of(sequence, end));
  }
  return rows;
}

}  // namespace

void ClassifierHeadUnit::pool(const Pass& pass, const MicroBatch& batch, ConstMatrix x,
                              Matrix pooled) const {
  if (pooling_ == Pooling::mean) {
    pass.kernels.mean_pool(x, batch.lengths, batch.first, pooled);
  } else {
    pass.kernels.gather_rows(x, end_rows(batch, first_local_), 0,
                             Matrix(pooled.flat(), 2 * pooled.extent(0), x.extent(1)));
  }
  pass.contexts.sum(pooled.flat());
}

void ClassifierHeadUnit::pool_backward(const Pass& pass, const MicroBatch& batch,
                                       ConstMatrix pooled_gradient, Matrix x_gradient) const {
  if (pooling_ == Pooling::mean) {
    return pass.kernels.mean_pool_backward(pooled_gradient, batch.lengths, batch.first, x_gradient);
  }
  pass.kernels.fill(x_gradient.flat(), 0);
  pass.kernels.scatter_rows(
      ConstMatrix(pooled_gradient.flat(), 2 * pooled_gradient.extent(0), x_gradient.extent(1)),
      end_rows(batch, first_local_), 0, true, x_gradient);
}

Loss ClassifierHeadUnit::forward(const Pass& pass, const MicroBatch& batch, Slots slots,
                                 const Frame& in, const Frame&) {
  const ClassifierHeadActivations& kept = kept_[slots.activation];
  const Matrix normed = memory_->scratch.normed.rows(0, batch.rows());
  const Matrix pooled = kept.pooled.rows(0, batch.sequences);
  const Matrix logits = kept.logits_gradient.rows(0, batch.sequences);
  const index_t size = batch.sequences;
  const Vector maximum = kept.maximum.first(size);
  const Vector exponential_sum = kept.exponential_sum.first(size);
  const Vector target_logit = kept.target_logit.first(size);
  const std::span<const std::int32_t> labels = batch.integers("labels");

  norm_.forward(pass, in[0], kept.norm, pass.shards.own_rows(normed));
  pass.shards.gather_rows(normed);
  pool(pass, batch, normed, pooled);
  classes_.forward(pass, pooled, logits);
  pass.kernels.row_maximum(logits, maximum);
  pass.kernels.softmax_sums(logits, maximum, labels, 0, exponential_sum, target_logit);
  const Loss loss = pass.kernels.cross_entropy(labels, maximum, exponential_sum, target_logit);
  if (pass.training) {
    pass.kernels.softmax_gradient(logits, maximum, exponential_sum, labels, 0, pass.loss_factor);
  }
  // Every context computes the same from the pooling on, so only one counts.
  return pass.contexts.index() == 0 ? loss : Loss{};
}

void ClassifierHeadUnit::backward(const Pass& pass, const MicroBatch& batch, Slots slots,
                                  const Frame&, const Frame& in_gradient) {
  const ClassifierHeadActivations& kept = kept_[slots.activation];
  const Matrix pooled_gradient = kept.pooled_gradient.rows(0, batch.sequences);
  const Matrix normed_gradient = memory_->scratch.normed.rows(0, batch.rows());
  classes_.backward(pass, kept.logits_gradient.rows(0, batch.sequences), pooled_gradient);
  pool_backward(pass, batch, pooled_gradient, normed_gradient);
  pass.kernels.fill(in_gradient[0].flat(), 0);
  norm_.backward(pass, kept.norm, pass.shards.own_rows(normed_gradient), in_gradient[0]);
}

void ClassifierHeadUnit::weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots) {
  if (pass.contexts.index() > 0 || pass.shards.index() > 0) return;  // theirs are the same
  const ClassifierHeadActivations& kept = kept_[slots.activation];
  classes_.weight_gradient(pass, kept.logits_gradient.rows(0, batch.sequences),
                           kept.pooled.rows(0, batch.sequences));
}

std::vector<ProductWeights> ClassifierHeadUnit::product_weights(const Pass& pass) const {
  return {classes_.product_weights(pass)};
}

void ClassifierHeadUnit::predict(const Pass& pass, const MicroBatch& batch, const Frame& in,
                                 std::span<const index_t> rows, Matrix scores) {
  const ClassifierHeadActivations& kept = kept_.front();
  const Matrix normed = memory_->scratch.normed.rows(0, batch.rows());
  const Matrix pooled = kept.pooled.rows(0, batch.sequences);
  const Matrix logits = kept.logits_gradient.rows(0, batch.sequences);
  norm_.forward(pass, in[0], kept.norm, pass.shards.own_rows(normed));
  pass.shards.gather_rows(normed);
  pool(pass, batch, normed, pooled);
  classes_.forward(pass, pooled, logits);
  pass.kernels.gather_rows(logits, rows, 0, scores);
}

}  // namespace weir::worker
