#pragma once

#include "worker/kernels/visible.hpp"
#include "worker/layers/linear.hpp"
#include "worker/layers/pieces.hpp"

namespace weir::worker {

/// What the backward of attention needs of one micro-batch.
struct AttentionActivations {
  Matrix qkv;      ///< [B * N, 3 * heads * C], rotated
  Matrix out;      ///< [B * N, heads * C], before the output projection
  Vector log_sum;  ///< [B * heads * N]

  void take(Pieces& pieces, index_t rows, index_t heads, index_t head_size);
};

/// Attention of each token to its window and to the global tokens, from the normed input to what is
/// added to the residual:
///
///   q, k, v = x Wq^T + bq, x Wk^T + bk, x Wv^T + bv        (one product: the slices are
///   neighbours) out = concatenated over heads(attention(rotated q, rotated k, v)) Wo + bo
///
/// Shards hold whole heads: `heads` of them each, of head_size C. One sum over the shards forward.
struct AttentionLayer {
  ColumnLinear query_key_value;
  RowLinear output;
  index_t heads = 0;  ///< of this shard
  bool rotary = true;
  Sparsity sparsity;

  /// x, out [B * N, E], whole on every shard.
  void forward(const Pass& pass, const MicroBatch& batch, ConstMatrix x, AttentionActivations& kept,
               Matrix out) const;
  /// qkv_gradient [B * N, 3 heads C] and out_gradient are kept by the caller for weight_gradient;
  /// `heads_gradient` [B * N, heads C] is scratch. x_gradient [B * N, E] is overwritten with this
  /// shard's part, to be summed over the shards.
  void backward(const Pass& pass, const MicroBatch& batch, const AttentionActivations& kept,
                ConstMatrix out_gradient, Matrix heads_gradient, Matrix qkv_gradient,
                Matrix x_gradient) const;
  void weight_gradient(const Pass& pass, const AttentionActivations& kept, ConstMatrix x,
                       ConstMatrix out_gradient, ConstMatrix qkv_gradient) const;
};

}  // namespace weir::worker
