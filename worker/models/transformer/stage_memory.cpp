#include "worker/models/transformer/stage_memory.hpp"

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

void UnitScratch::take(Pieces& pieces, const StageShape& shape) {
  const index_t rows = shape.rows;
  const index_t width = shape.config.width;
  normed = pieces.matrix(rows, width);
  branch = pieces.matrix(rows, width);
  attention.take(pieces, attention_shape(shape));
  if (shape.recompute == Recompute::block) rerun = pieces.matrix(rows, width);
  hidden = pieces.matrix(rows, shape.feed_forward());
  if (shape.has_head && shape.config.task == Task::language) {
    loss.take(pieces, shape.kernels->product_strip(rows, shape.vocabulary()), shape.vocabulary());
  }
}

void BlockActivations::take(Pieces& pieces, const StageShape& shape) {
  attention_norm.take(pieces, shape.rows, shape.config.width);
  attention.take(pieces, attention_shape(shape));
  feed_forward_norm.take(pieces, shape.rows, shape.config.width);
  feed_forward.take(pieces, shape.rows, shape.feed_forward());
}

void BlockGradients::take(Pieces& pieces, const StageShape& shape) {
  if (!shape.training) return;
  attention_branch = pieces.matrix(shape.rows, shape.config.width);
  feed_forward_branch = pieces.matrix(shape.rows, shape.config.width);
  qkv = pieces.matrix(shape.rows, 3 * shape.heads() * shape.config.head_size());
  hidden = pieces.matrix(shape.rows, shape.feed_forward());
}

void EmbeddingGradients::take(Pieces& pieces, const StageShape& shape) {
  output = pieces.matrix(shape.rows, shape.config.width);
}

}  // namespace weir::worker
