#pragma once

#include "worker/layers/linear.hpp"
#include "worker/layers/pieces.hpp"

namespace weir::worker {

/// What the backward of a feed-forward needs of one micro-batch.
struct FeedForwardActivations {
  Matrix inner;  ///< [M, F of this shard]: x U^T + b; from backward on gelu of that

  void take(Pieces& pieces, index_t rows, index_t width, Dtype dtype);
};

/// out = gelu(x U^T + b) D + c, row by row. The inner width F is cut over the shards; forward has
/// one sum over them.
struct FeedForwardLayer {
  ColumnLinear up;
  RowLinear down;

  /// x, out [M, E]: all rows of x on every shard; of out this shard's own rows are complete.
  /// `hidden` [M, F of this shard] is scratch.
  void forward(const Pass& pass, ConstMatrix x, const FeedForwardActivations& kept, Matrix hidden,
               Matrix out) const;
  /// hidden_gradient [M, F of this shard], out_gradient and `kept`, in which gelu's output takes
  /// the place of its input, are left as they are for weight_gradient. x_gradient [M, E] is
  /// overwritten with this shard's part, to be summed over the shards.
  void backward(const Pass& pass, const FeedForwardActivations& kept, ConstMatrix out_gradient,
                Matrix hidden_gradient, Matrix x_gradient) const;
  /// After backward, which has computed gelu once more: that costs less than keeping its output.
  void weight_gradient(const Pass& pass, const FeedForwardActivations& kept, ConstMatrix x,
                       ConstMatrix out_gradient, ConstMatrix hidden_gradient) const;
};

}  // namespace weir::worker
