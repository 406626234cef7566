#pragma once

#include "worker/layers/held.hpp"

namespace weir::worker {

/// out = x W^T + b, the output features cut over the shards: this one computes `weight.rows` of
/// them from all inputs. M rows.
struct ColumnLinear {
  HeldMatrix weight;       ///< [outputs of this shard, inputs]
  HeldVector bias;         ///< [outputs of this shard], without those that have none
  Interval unbiased = {};  ///< outputs without a bias

  ProductWeights product_weights(const Pass& pass) const {
    return {weight.weights(pass), {.multiply = pass.training, .multiply_transposed = true}};
  }
  /// x [M, inputs], all rows on every shard; out [M, outputs of this shard].
  void forward(const Pass& pass, ConstMatrix x, Matrix out) const;
  /// x_gradient is overwritten with this shard's part: it is complete after a sum over the shards,
  /// which is left to the caller.
  void backward(const Pass& pass, ConstMatrix out_gradient, Matrix x_gradient) const;
  void weight_gradient(const Pass& pass, ConstMatrix out_gradient, ConstMatrix x) const;
};

/// out = x W + b, the input features cut over the shards. W is stored [inputs, outputs], unlike
/// that of ColumnLinear: a shard's slice is then a run of rows, one range of the parameter.
struct RowLinear {
  HeldMatrix weight;  ///< [inputs of this shard, outputs]
  HeldVector bias;    ///< [outputs], on every shard; its gradient is a sum over them

  ProductWeights product_weights(const Pass& pass) const {
    return {weight.weights(pass), {.multiply = true, .multiply_transposed = pass.training}};
  }
  /// x [M, inputs of this shard]; out [M, outputs], of which this shard's own rows are complete, by
  /// one sum over the shards.
  void forward(const Pass& pass, ConstMatrix x, Matrix out) const;
  /// The same step by step, for layers that make `out` piece by piece: this shard's part of some
  /// rows; then the sum of the own rows over the shards; then the bias of complete rows.
  void multiply(const Pass& pass, ConstMatrix x, Matrix out) const;
  void sum(const Pass& pass, Matrix out) const;
  void add_bias(const Pass& pass, Matrix rows) const;
  /// x_gradient [M, inputs of this shard] is overwritten.
  void backward(const Pass& pass, ConstMatrix out_gradient, Matrix x_gradient) const;
  /// All rows of both. The bias gets what this shard's own rows add to its gradient.
  void weight_gradient(const Pass& pass, ConstMatrix out_gradient, ConstMatrix x) const;
};

}  // namespace weir::worker
