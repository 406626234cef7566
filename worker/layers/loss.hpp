#pragma once

#include "worker/layers/linear.hpp"
#include "worker/layers/pieces.hpp"

namespace weir::worker {

/// One strip of logits and its sums.
struct LossScratch {
  Matrix logits;   ///< [rows of a strip, columns]
  Vector maximum;  ///< [rows of a strip]
  Vector sums;     ///< [2 * rows of a strip]: exponential sums, then logits of the targets

  void take(Pieces& pieces, index_t strip_rows, index_t columns, Dtype dtype);
};

/// Cross-entropy of rows against the vocabulary, which is cut over the shards in runs of rows; the
/// projection to logits and the loss in one:
///
///   loss = sum over rows r with a target of  log(sum_v exp(logits[r, v])) - logits[r, target[r]],
///   logits = x W^T
///
/// Works in strips of rows, so the logits of all rows never exist at once: a strip's are projected,
/// reduced over the shards twice (the maximum; then exponential sums and target logits together),
/// turned into their own gradient and used up. So forward in training also makes the gradients: no
/// logits are kept or computed twice. Slices of uneven size, empty ones too, need no padding: a
/// shard without columns takes part in the sums with -inf, 0 and 0.
struct VocabularyLoss {
  HeldMatrix weight;      ///< [rows of this shard, E]
  index_t first_row = 0;  ///< the token of the slice's first row

  ProductWeights product_weights(const Pass& pass) const {
    return {weight.weights(pass), {.multiply = pass.training, .multiply_transposed = true}};
  }
  /// x [M, E], targets [M], -1 where there is no loss term. In training x_gradient [M, E] is
  /// overwritten with this shard's part, to be summed over the shards, and the gradient of the
  /// weights is added, both times pass.loss_factor. The loss itself is the same on all shards and
  /// has no factor. Every shard's scratch has the same strip rows, and at least weight.rows
  /// columns.
  Loss forward(const Pass& pass, std::span<const std::int32_t> targets, ConstMatrix x,
               const LossScratch& scratch, Matrix x_gradient) const;
};

}  // namespace weir::worker
