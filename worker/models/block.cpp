#include "worker/models/block.hpp"

#include "common/number/random.hpp"

namespace weir::worker {

void BlockActivations::take(Pieces& pieces, const StageShape& shape) {
  attention_norm.take(pieces, shape.rows, shape.config.width);
  attention.take(pieces, attention_shape(shape));
  feed_forward_norm.take(pieces, shape.rows, shape.config.width);
  feed_forward.take(pieces, shape.rows, shape.feed_forward());
}

BlockUnit::BlockUnit(const StageShape& shape, index_t layer, const HeldParameters& parameters,
                     index_t slots, std::shared_ptr<Scratch> scratch,
                     std::shared_ptr<BlockActivations> shared)
    : shared_(std::move(shared)), scratch_(std::move(scratch)) {
  const std::string block = text("layers.", layer, ".");
  const std::string heads = block + "attention.";
  const std::string wide = block + "feed_forward.";
  attention_norm_ = {parameters.vector(block + "attention_norm.weight"),
                     parameters.vector(block + "attention_norm.bias")};
  const Sparsity sparsity = shape.config.sparsity();
  const HeldMatrix weights =
      parameters.matrices({heads + "query.weight", heads + "key.weight", heads + "value.weight"});
  if (shape.config.has_key_bias()) {
    attention_.query_key_value = {
        weights,
        parameters.vectors({heads + "query.bias", heads + "key.bias", heads + "value.bias"})};
  } else {
    const index_t part = weights.rows / 3;
    attention_.query_key_value = {weights,
                                  parameters.vectors({heads + "query.bias", heads + "value.bias"}),
                                  Run{part, 2 * part}};
  }
  attention_.output = {parameters.matrix(heads + "output.weight"),
                       parameters.vector(heads + "output.bias")};
  attention_.heads = shape.heads();
  attention_.rotary = shape.config.positions == Positions::rotary;
  attention_.sparsity = sparsity;
  if (sparsity.form != GlobalForm::shared) {
    attention_.branch = {.query = parameters.matrix(heads + "global_query.weight"),
                         .key = parameters.matrix(heads + "global_key.weight"),
                         .value = parameters.matrix(heads + "global_value.weight"),
                         .query_bias = parameters.vector(heads + "global_query.bias"),
                         .value_bias = parameters.vector(heads + "global_value.bias"),
                         .heads = attention_shape(shape).branch_heads,
                         .sparsity = sparsity};
  }
  if (sparsity.form == GlobalForm::split) {
    attention_.branch_output = {parameters.matrix(heads + "global_output.weight"),
                                parameters.vector(heads + "global_output.bias")};
  }
  attention_dropout_ = {shape.config.dropout, stream_of(heads + "dropout")};
  feed_forward_norm_ = {parameters.vector(block + "feed_forward_norm.weight"),
                        parameters.vector(block + "feed_forward_norm.bias")};
  feed_forward_ = {
      .up = {parameters.matrix(wide + "up.weight"), parameters.vector(wide + "up.bias")},
      .down = {parameters.matrix(wide + "down.weight"), parameters.vector(wide + "down.bias")}};
  feed_forward_dropout_ = {shape.config.dropout, stream_of(wide + "dropout")};
  for (index_t slot = 0; slot < slots; ++slot) {
    if (shared_) {
      inputs_.emplace_back(shape.rows * shape.config.width, bytes_of(Dtype::f32),
                           shape.kernels->memory());
    } else {
      kept_.emplace_back(shape.kernels->memory(), shape);
    }
  }
}

Loss BlockUnit::forward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix x) {
  if (shared_ && pass.training) {
    const Vector input = inputs_[static_cast<std::size_t>(slot)].elements(x.dtype());
    pass.kernels.copy(x.flat(), input.first(x.size()));
  }
  run(pass, batch, kept(slot), x);
  return {};
}

void BlockUnit::run(const Pass& pass, const MicroBatch& batch, BlockActivations& kept, Matrix x) {
  const index_t rows = batch.rows();
  const Matrix normed = scratch_->normed.rows(0, rows);
  const Matrix branch = scratch_->attention_branch.rows(0, rows);

  attention_norm_.forward(pass, x, kept.attention_norm, normed);
  attention_.forward(pass, batch, normed, kept.attention, scratch_->attention, branch);
  attention_dropout_.apply(pass, batch, branch);
  pass.kernels.add(branch.flat(), x.flat());

  feed_forward_norm_.forward(pass, x, kept.feed_forward_norm, normed);
  feed_forward_.forward(pass, normed, kept.feed_forward, scratch_->hidden.rows(0, rows), branch);
  feed_forward_dropout_.apply(pass, batch, branch);
  pass.kernels.add(branch.flat(), x.flat());
}

void BlockUnit::backward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix gradient) {
  BlockActivations& kept = this->kept(slot);
  const index_t rows = batch.rows();
  if (shared_) {
    const Matrix x = scratch_->rerun.rows(0, rows);
    const Vector input = inputs_[static_cast<std::size_t>(slot)].elements(x.dtype());
    pass.kernels.copy(input.first(x.size()), x.flat());
    run(pass, batch, kept, x);
  }
  const Matrix normed_gradient = scratch_->normed_gradient.rows(0, rows);

  // The residual passes its gradient on; each half adds what comes back through its branch.
  const Matrix wide_branch = scratch_->feed_forward_branch.rows(0, rows);
  pass.kernels.copy(gradient.flat(), wide_branch.flat());
  feed_forward_dropout_.apply(pass, batch, wide_branch);
  feed_forward_.backward(pass, kept.feed_forward, wide_branch,
                         scratch_->hidden_gradient.rows(0, rows), normed_gradient);
  pass.shards.sum(normed_gradient.flat());
  feed_forward_norm_.backward(pass, kept.feed_forward_norm, normed_gradient, gradient);

  const Matrix normed = scratch_->normed.rows(0, rows);
  if (attention_.branch) attention_norm_.again(pass, kept.attention_norm, normed);
  const Matrix branch = scratch_->attention_branch.rows(0, rows);
  pass.kernels.copy(gradient.flat(), branch.flat());
  attention_dropout_.apply(pass, batch, branch);
  attention_.backward(pass, batch, kept.attention, normed, branch, scratch_->attention,
                      normed_gradient);
  pass.shards.sum(normed_gradient.flat());
  attention_norm_.backward(pass, kept.attention_norm, normed_gradient, gradient);
}

void BlockUnit::weight_gradient(const Pass& pass, const MicroBatch& batch, index_t slot) {
  BlockActivations& kept = this->kept(slot);
  const index_t rows = batch.rows();
  const Matrix normed = scratch_->normed.rows(0, rows);
  feed_forward_norm_.again(pass, kept.feed_forward_norm, normed);
  feed_forward_.weight_gradient(
      pass, kept.feed_forward, normed, scratch_->feed_forward_branch.rows(0, rows),
      scratch_->hidden_gradient.rows(0, rows), scratch_->hidden.rows(0, rows));
  attention_norm_.again(pass, kept.attention_norm, normed);
  attention_.weight_gradient(pass, kept.attention, normed, scratch_->attention_branch.rows(0, rows),
                             scratch_->attention);
}

}  // namespace weir::worker
