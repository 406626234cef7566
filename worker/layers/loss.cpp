#include "worker/layers/loss.hpp"

#include <cmath>

namespace weir::worker {

void LossScratch::take(Pieces& pieces, index_t strip_rows, index_t columns) {
  logits = pieces.matrix(strip_rows, columns);
  maximum = pieces.vector(strip_rows);
  sums = pieces.vector(2 * strip_rows);
}

index_t strip_rows_of(index_t rows, index_t columns) {
  constexpr index_t kStripElements = 1 << 18;
  constexpr index_t kFewestRows = 64;
  return std::clamp<index_t>(kStripElements / std::max<index_t>(columns, 1),
                             std::min(rows, kFewestRows), rows);
}

Loss cross_entropy(std::span<const std::int32_t> targets, ConstVector maximum,
                   ConstVector exponential_sum, ConstVector target_logit) {
  Loss loss;
  for (std::size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] < 0) continue;
    loss.sum += std::log(double{exponential_sum[row]}) + maximum[row] - target_logit[row];
    loss.count += 1;
    loss.correct += target_logit[row] == maximum[row] ? 1 : 0;
  }
  return loss;
}

Loss VocabularyLoss::forward(const Pass& pass, std::span<const std::int32_t> targets, ConstMatrix x,
                             const LossScratch& scratch, Matrix x_gradient) const {
  Kernels& kernels = pass.kernels;
  Loss loss;
  for (index_t begin = 0; begin < x.extent(0); begin += scratch.logits.extent(0)) {
    const index_t rows = std::min(scratch.logits.extent(0), x.extent(0) - begin);
    const auto size = static_cast<std::size_t>(rows);
    const ConstMatrix strip = x.rows(begin, rows);
    const auto strip_targets = targets.subspan(static_cast<std::size_t>(begin), size);
    const Matrix logits(scratch.logits.data(), {rows, weight.rows});
    const Vector maximum = scratch.maximum.first(size);
    const Vector sums = scratch.sums.first(2 * size);

    if (weight.rows > 0) kernels.multiply_transposed(strip, weight.weights(pass), {}, logits);
    kernels.row_maximum(logits, maximum);
    pass.shards.max(maximum);
    kernels.softmax_sums(logits, maximum, strip_targets, first_row, sums.first(size),
                         sums.last(size));
    pass.shards.sum(sums);
    loss += cross_entropy(strip_targets, maximum, sums.first(size), sums.last(size));
    if (!pass.training) continue;

    const Matrix strip_gradient = x_gradient.rows(begin, rows);
    if (weight.rows == 0) {
      kernels.fill(strip_gradient.span(), 0);
      continue;
    }
    kernels.softmax_gradient(logits, maximum, sums.first(size), strip_targets, first_row, 1.0F);
    kernels.multiply(logits, weight.weights(pass), false, strip_gradient);
    kernels.add_transposed_product(logits, strip, weight.gradients(pass));
  }
  return loss;
}

}  // namespace weir::worker
