#include "worker/models/transformer/block.hpp"

#include "common/number/random.hpp"

namespace weir::worker {

BlockUnit::BlockUnit(const StageShape& shape, index_t layer, const HeldParameters& parameters,
                     const SlotCounts& slots, std::shared_ptr<const StageMemory> memory)
    : gradients_(shape, slots.gradients, memory->gradients), memory_(std::move(memory)) {
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
                                  Interval{part, 2 * part}};
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
  for (index_t slot = 0; slot < slots.activations; ++slot) {
    if (memory_->activations) {
      inputs_.emplace_back(shape.input_bytes(), 1, shape.kernels->memory());
    } else {
      kept_.emplace_back(shape.kernels->memory(), shape);
    }
  }
}

std::vector<ProductWeights> BlockUnit::product_weights(const Pass& pass) const {
  std::vector<ProductWeights> all = {
      attention_.query_key_value.product_weights(pass), attention_.output.product_weights(pass),
      feed_forward_.up.product_weights(pass), feed_forward_.down.product_weights(pass)};
  if (attention_.branch) all.push_back(attention_.branch->product_weights(pass));
  if (attention_.branch_output) all.push_back(attention_.branch_output->product_weights(pass));
  return all;
}

Loss BlockUnit::forward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& in,
                        const Frame&) {
  const Matrix x = in[0];
  if (memory_->activations && pass.training) {
    pass.kernels.copy(x.flat(), input(slots.activation, x));
  }
  run(pass, batch, kept(slots.activation), x);
  return {};
}

void BlockUnit::run(const Pass& pass, const MicroBatch& batch, const BlockActivations& kept,
                    Matrix x) const {
  const UnitScratch& scratch = memory_->scratch;
  const index_t rows = batch.rows();
  const Matrix normed = scratch.normed.rows(0, rows);
  const Matrix branch = scratch.branch.rows(0, rows);
  const Matrix own_branch = pass.shards.own_rows(branch);

  attention_norm_.forward(pass, x, kept.attention_norm, pass.shards.own_rows(normed));
  pass.shards.gather_rows(normed);
  attention_.forward(pass, batch, normed, kept.attention, scratch.attention, branch);
  attention_dropout_.apply(pass, batch, own_branch);
  pass.kernels.add(own_branch.flat(), x.flat());

  feed_forward_norm_.forward(pass, x, kept.feed_forward_norm, pass.shards.own_rows(normed));
  pass.shards.gather_rows(normed);
  feed_forward_.forward(pass, normed, kept.feed_forward, scratch.hidden.rows(0, rows), branch);
  feed_forward_dropout_.apply(pass, batch, own_branch);
  pass.kernels.add(own_branch.flat(), x.flat());
}

Matrix BlockUnit::normed_again(const Pass& pass, const MicroBatch& batch, const Norm& norm,
                               const NormActivations& kept) const {
  const Matrix normed = memory_->scratch.normed.rows(0, batch.rows());
  norm.again(pass, kept, pass.shards.own_rows(normed));
  pass.shards.gather_rows(normed);
  return normed;
}

void BlockUnit::backward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame&,
                         const Frame& in_gradient) {
  backward(pass, batch, slots, in_gradient[0], false);
}

void BlockUnit::backward_and_weights(const Pass& pass, const MicroBatch& batch, Slots slots,
                                     const Frame&, const Frame& in_gradient) {
  backward(pass, batch, slots, in_gradient[0], true);
}

void BlockUnit::backward(const Pass& pass, const MicroBatch& batch, Slots slots, Matrix gradient,
                         bool with_weights) {
  const BlockActivations& kept = this->kept(slots.activation);
  const BlockGradients& gradients = gradients_[slots.gradient];
  if (memory_->activations) {
    const Matrix x = memory_->scratch.rerun.rows(0, gradient.extent(0));
    pass.kernels.copy(input(slots.activation, x), x.flat());
    run(pass, batch, kept, x);
  }
  // The residual passes its gradient on unchanged; each half adds the gradient through its branch.
  feed_forward_backward(pass, batch, kept, gradients, gradient, with_weights);
  attention_backward(pass, batch, kept, gradients, gradient, with_weights);
}

void BlockUnit::into_branch(const Pass& pass, const MicroBatch& batch, const Dropout& dropout,
                            Matrix gradient, Matrix own_branch) {
  pass.kernels.copy(gradient.flat(), own_branch.flat());
  dropout.apply(pass, batch, own_branch);
}

void BlockUnit::feed_forward_backward(const Pass& pass, const MicroBatch& batch,
                                      const BlockActivations& kept, const BlockGradients& gradients,
                                      Matrix gradient, bool with_weights) const {
  const UnitScratch& scratch = memory_->scratch;
  const index_t rows = batch.rows();
  const Matrix own_branch = gradients.feed_forward_branch.rows(0, gradient.extent(0));
  into_branch(pass, batch, feed_forward_dropout_, gradient, own_branch);
  const Matrix branch = scratch.gathered(pass, batch, own_branch);
  const Matrix hidden = gradients.hidden.rows(0, rows);
  const Matrix normed_gradient = scratch.branch.rows(0, rows);
  feed_forward_.backward(pass, kept.feed_forward, branch, hidden, normed_gradient);
  Matrix normed;
  if (with_weights) normed = normed_again(pass, batch, feed_forward_norm_, kept.feed_forward_norm);
  pass.shards.start_row_sum(normed_gradient);
  if (with_weights) {
    feed_forward_.weight_gradient(pass, kept.feed_forward, normed, branch, hidden);
  }
  pass.shards.finish_row_sum(normed_gradient);
  feed_forward_norm_.backward(pass, kept.feed_forward_norm, pass.shards.own_rows(normed_gradient),
                              gradient);
}

void BlockUnit::attention_backward(const Pass& pass, const MicroBatch& batch,
                                   const BlockActivations& kept, const BlockGradients& gradients,
                                   Matrix gradient, bool with_weights) const {
  const UnitScratch& scratch = memory_->scratch;
  const index_t rows = batch.rows();
  const Matrix own_branch = gradients.attention_branch.rows(0, gradient.extent(0));
  into_branch(pass, batch, attention_dropout_, gradient, own_branch);
  Matrix normed = scratch.normed.rows(0, rows);
  if (attention_.branch || with_weights) {
    normed = normed_again(pass, batch, attention_norm_, kept.attention_norm);
  }
  const Matrix branch = scratch.gathered(pass, batch, own_branch);
  const Matrix qkv = gradients.qkv.rows(0, rows);
  const Matrix normed_gradient = scratch.branch.rows(0, rows);
  attention_.backward(pass, batch, kept.attention, normed, branch, scratch.attention, qkv,
                      normed_gradient);
  if (!with_weights && attention_.branch_output && pass.shards.size() > 1) {
    pass.kernels.copy(pass.shards.own_rows(branch).flat(), own_branch.flat());  // has zeros now
  }
  pass.shards.start_row_sum(normed_gradient);
  if (with_weights) attention_.weight_gradient(pass, kept.attention, normed, branch, qkv);
  pass.shards.finish_row_sum(normed_gradient);
  attention_norm_.backward(pass, kept.attention_norm, pass.shards.own_rows(normed_gradient),
                           gradient);
}

void BlockUnit::weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots) {
  const BlockActivations& kept = this->kept(slots.activation);
  const BlockGradients& gradients = gradients_[slots.gradient];
  const UnitScratch& scratch = memory_->scratch;
  const index_t rows = batch.rows();
  const index_t own_rows = pass.shards.own_rows(rows).count();
  Matrix normed = normed_again(pass, batch, feed_forward_norm_, kept.feed_forward_norm);
  Matrix branch = scratch.gathered(pass, batch, gradients.feed_forward_branch.rows(0, own_rows));
  feed_forward_.weight_gradient(pass, kept.feed_forward, normed, branch,
                                gradients.hidden.rows(0, rows));
  normed = normed_again(pass, batch, attention_norm_, kept.attention_norm);
  branch = scratch.gathered(pass, batch, gradients.attention_branch.rows(0, own_rows));
  attention_.weight_gradient(pass, kept.attention, normed, branch, gradients.qkv.rows(0, rows));
}

}  // namespace weir::worker
