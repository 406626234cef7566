#include "worker/models/scratch.hpp"

namespace weir::worker {

AttentionShape attention_shape(const StageShape& shape) {
  const ModelConfig& config = shape.config;
  const Sparsity sparsity = config.sparsity();
  const bool is_cut = shape.contexts > 1;
  index_t branch_heads = 0;
  if (sparsity.form == GlobalForm::separate) branch_heads = shape.heads();
  if (sparsity.form == GlobalForm::split) branch_heads = config.global_heads / shape.shards;
  return {.sequences = shape.sequences,
          .rows = shape.rows,
          .width = config.width,
          .heads = shape.heads(),
          .head_size = config.head_size(),
          .globals = sparsity.globals.count(),
          .branch_heads = branch_heads,
          .contexts = shape.contexts,
          .left = is_cut ? sparsity.left : 0,
          .right = is_cut ? sparsity.right_reach() : 0,
          .strip_tokens = shape.kernels->attention_strip(shape.heads() * config.head_size()),
          .branch_strip_tokens =
              shape.kernels->product_strip(shape.rows / shape.sequences, config.width)};
}

void Scratch::take(Pieces& pieces, const StageShape& shape) {
  const index_t rows = shape.rows;
  const index_t width = shape.config.width;
  normed = pieces.matrix(rows, width);
  normed_gradient = pieces.matrix(rows, width);
  attention_branch = pieces.matrix(rows, width);
  feed_forward_branch = pieces.matrix(rows, width);
  attention.take(pieces, attention_shape(shape));
  if (shape.recompute == Recompute::block) rerun = pieces.matrix(rows, width);
  hidden = pieces.matrix(rows, shape.feed_forward());
  hidden_gradient = pieces.matrix(rows, shape.feed_forward());
  if (shape.has_head && shape.config.task == Task::language) {
    loss.take(pieces, shape.kernels->product_strip(rows, shape.vocabulary()), shape.vocabulary());
  }
}

}  // namespace weir::worker
