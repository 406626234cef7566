#include "worker/layers/attention.hpp"

namespace weir::worker {

void AttentionActivations::take(Pieces& pieces, index_t rows, index_t heads, index_t head_size) {
  qkv = pieces.matrix(rows, 3 * heads * head_size);
  out = pieces.matrix(rows, heads * head_size);
  log_sum = pieces.vector(rows * heads);
}

void AttentionLayer::forward(const Pass& pass, const MicroBatch& batch, ConstMatrix x,
                             AttentionActivations& kept, Matrix out) const {
  const index_t rows = batch.rows();
  const Matrix qkv = kept.qkv.rows(0, rows);
  const Matrix heads_out = kept.out.rows(0, rows);
  query_key_value.forward(pass, x, qkv);
  if (rotary) pass.kernels.rotate(qkv, heads, batch.length, 1);
  pass.kernels.attention(qkv, heads, batch.lengths, sparsity, heads_out,
                         kept.log_sum.first(static_cast<std::size_t>(rows * heads)));
  output.forward(pass, heads_out, out);
}

void AttentionLayer::backward(const Pass& pass, const MicroBatch& batch,
                              const AttentionActivations& kept, ConstMatrix out_gradient,
                              Matrix heads_gradient, Matrix qkv_gradient, Matrix x_gradient) const {
  const index_t rows = batch.rows();
  output.backward(pass, out_gradient, heads_gradient);
  pass.kernels.attention_backward(
      kept.qkv.rows(0, rows), heads, batch.lengths, sparsity, kept.out.rows(0, rows),
      kept.log_sum.first(static_cast<std::size_t>(rows * heads)), heads_gradient, qkv_gradient);
  if (rotary) pass.kernels.rotate(qkv_gradient, heads, batch.length, -1);
  query_key_value.backward(pass, qkv_gradient, x_gradient);
}

void AttentionLayer::weight_gradient(const Pass& pass, const AttentionActivations& kept,
                                     ConstMatrix x, ConstMatrix out_gradient,
                                     ConstMatrix qkv_gradient) const {
  output.weight_gradient(pass, out_gradient, kept.out.rows(0, out_gradient.extent(0)));
  query_key_value.weight_gradient(pass, qkv_gradient, x);
}

}  // namespace weir::worker
