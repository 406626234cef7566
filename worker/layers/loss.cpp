#include "worker/layers/loss.hpp"

namespace weir::worker {

void LossScratch::take(Pieces& pieces, index_t strip_rows, index_t columns, Dtype dtype) {
  logits = pieces.matrix(strip_rows, columns, dtype);
  maximum = pieces.vector(strip_rows);
  sums = pieces.vector(2 * strip_rows);
}

Loss VocabularyLoss::forward(const Pass& pass, std::span<const std::int32_t> targets, ConstMatrix x,
                             const LossScratch& scratch, Matrix x_gradient) const {
  Kernels& kernels = pass.kernels;
  Loss loss;
  for (index_t begin = 0; begin < x.extent(0); begin += scratch.logits.extent(0)) {
    const index_t rows = std::min(scratch.logits.extent(0), x.extent(0) - begin);
    const ConstMatrix strip = x.rows(begin, rows);
    const auto strip_targets = targets.subspan(begin, rows);
    const Matrix logits(scratch.logits.flat(), rows, weight.rows);
    const Vector maximum = scratch.maximum.first(rows);
    const Vector sums = scratch.sums.first(2 * rows);

    if (weight.rows > 0) kernels.multiply_transposed(strip, weight.weights(pass), {}, logits);
    kernels.row_maximum(logits, maximum);
    pass.shards.max(maximum);
    kernels.softmax_sums(logits, maximum, strip_targets, first_row, sums.first(rows),
                         sums.last(rows));
    pass.shards.sum(sums);
    loss += kernels.cross_entropy(strip_targets, maximum, sums.first(rows), sums.last(rows));
    if (!pass.training) continue;

    const Matrix strip_gradient = x_gradient.rows(begin, rows);
    if (weight.rows == 0) {
      kernels.fill(strip_gradient.flat(), 0);
      continue;
    }
    kernels.softmax_gradient(logits, maximum, sums.first(rows), strip_targets, first_row,
                             pass.loss_factor);
    kernels.multiply(logits, weight.weights(pass), false, strip_gradient);
    kernels.add_transposed_product(logits, strip, weight.gradients(pass));
  }
  return loss;
}

}  // namespace weir::worker
