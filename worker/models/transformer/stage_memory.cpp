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
              shape.kernels->product_strip(shape.rows / shape.sequences, config.width),
          .dtype = config.dtype};
}

namespace {

/// Uses of weights [outputs, inputs], whose forward multiplies by their transpose.
index_t packed_columns(const StageShape& shape, index_t outputs, index_t inputs) {
  return shape.kernels->packed_bytes(outputs, inputs, shape.config.dtype,
                                     {.multiply = shape.training, .multiply_transposed = true});
}
/// Uses of weights [inputs, outputs].
index_t packed_rows(const StageShape& shape, index_t inputs, index_t outputs) {
  return shape.kernels->packed_bytes(inputs, outputs, shape.config.dtype,
                                     {.multiply = true, .multiply_transposed = shape.training});
}

}  // namespace

index_t packed_bytes_of_block(const StageShape& shape) {
  const AttentionShape attention = attention_shape(shape);
  const index_t width = shape.config.width;
  index_t bytes = packed_columns(shape, 3 * attention.part(), width) +
                  packed_rows(shape, attention.part(), width) +
                  packed_columns(shape, shape.feed_forward(), width) +
                  packed_rows(shape, shape.feed_forward(), width);
  const index_t branch = attention.branch_heads * attention.head_size;
  const GlobalForm form = shape.config.sparsity().form;
  if (form != GlobalForm::shared) bytes += packed_columns(shape, branch, width);
  if (form == GlobalForm::split) bytes += packed_rows(shape, branch, width);
  return bytes;
}

index_t packed_bytes_of_head(const StageShape& shape) {
  const ModelConfig& config = shape.config;
  return config.task == Task::language
             ? packed_columns(shape, shape.vocabulary(), config.width)
             : packed_columns(shape, config.classes, config.pooled_width());
}

void UnitScratch::take(Pieces& pieces, const StageShape& shape) {
  const index_t rows = shape.rows;
  const index_t width = shape.config.width;
  const Dtype dtype = shape.config.dtype;
  normed = pieces.matrix(rows, width, dtype);
  branch = pieces.matrix(rows, width, dtype);
  if (shape.shards > 1 && shape.training) whole = pieces.matrix(rows, width, dtype);
  attention.take(pieces, attention_shape(shape));
  if (shape.recompute == Recompute::block) rerun = pieces.matrix(shape.own_rows, width, dtype);
  hidden = pieces.matrix(rows, shape.feed_forward(), dtype);
  if (shape.has_head && shape.config.task == Task::language) {
    loss.take(pieces, shape.kernels->product_strip(rows, shape.vocabulary()), shape.vocabulary(),
              dtype);
  }
}

Matrix UnitScratch::gathered(const Pass& pass, const MicroBatch& batch, Matrix own) const {
  if (pass.shards.size() == 1) return own;
  const Matrix all = whole.rows(0, batch.rows());
  pass.kernels.copy(own.flat(), pass.shards.own_rows(all).flat());
  pass.shards.gather_rows(all);
  return all;
}

Matrix UnitScratch::room_for(const Pass& pass, const MicroBatch& batch, Matrix own) const {
  return pass.shards.size() == 1 ? own : branch.rows(0, batch.rows());
}

void UnitScratch::keep(const Pass& pass, Matrix all, Matrix own) const {
  if (pass.shards.size() == 1) return;
  pass.kernels.copy(pass.shards.own_rows(all).flat(), own.flat());
}

void BlockActivations::take(Pieces& pieces, const StageShape& shape) {
  const Dtype dtype = shape.config.dtype;
  attention_norm.take(pieces, shape.own_rows, shape.config.width, dtype);
  attention.take(pieces, attention_shape(shape));
  feed_forward_norm.take(pieces, shape.own_rows, shape.config.width, dtype);
  feed_forward.take(pieces, shape.rows, shape.feed_forward(), dtype);
}

void BlockGradients::take(Pieces& pieces, const StageShape& shape) {
  if (!shape.training) return;
  const Dtype dtype = shape.config.dtype;
  attention_branch = pieces.matrix(shape.own_rows, shape.config.width, dtype);
  feed_forward_branch = pieces.matrix(shape.own_rows, shape.config.width, dtype);
  qkv = pieces.matrix(shape.rows, 3 * shape.heads() * shape.config.head_size(), dtype);
  hidden = pieces.matrix(shape.rows, shape.feed_forward(), dtype);
}

void EmbeddingGradients::take(Pieces& pieces, const StageShape& shape) {
  output = pieces.matrix(shape.own_rows, shape.config.width, shape.config.dtype);
}

}  // namespace weir::worker
