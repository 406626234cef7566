#pragma once

#include "worker/kernels/visible.hpp"
#include "worker/layers/held.hpp"
#include "worker/layers/pieces.hpp"

namespace weir::worker {

/// What the sizes of a global branch follow from: those of the largest micro-batch, on one shard.
struct GlobalBranchShape {
  index_t sequences = 0;  ///< B
  index_t tokens = 0;     ///< N, of this context
  index_t globals = 0;    ///< G
  index_t heads = 0;      ///< H, of this shard
  index_t head_size = 0;  ///< C
  index_t width = 0;      ///< E
  index_t contexts = 1;
  index_t strip_tokens = 0;  ///< rows of x that are worked on at a time
  Dtype dtype = Dtype::f32;  ///< that of activations; sums over tokens and logarithms are f32
};

/// What the backward of the branch needs of one micro-batch: nothing that grows with N.
struct GlobalBranchActivations {
  Vector x;        ///< [B * G * E] inputs of the global rows, then `seeing`: see below
  Matrix query;    ///< [B * G, H * C]
  Matrix folded;   ///< [B * G * H, E], u
  Matrix mean;     ///< [B * G * H, E], y
  Vector log_sum;  ///< [B * G * H]

  void take(Pieces& pieces, const GlobalBranchShape& shape);
};

/// Contents last no longer than a call.
struct GlobalBranchScratch {
  index_t strip_tokens = 0;  ///< S, rows of x that are worked on at a time
  Matrix strip;              ///< [2 * G * H, S]: scores, then gradients of their probabilities
  Matrix factors;            ///< [2 * G * H, E]: u and the gradient of y, of one sequence
  Vector part;               ///< [B * G * H * (E + 2)]: this context's part of the softmaxes
  Vector parts;              ///< those of all contexts
  Matrix mean_gradient;      ///< [B * G * H, E]
  Matrix folded_gradient;    ///< [B * G * H, E], f32
  Vector mean_product;       ///< [B * G * H]
  Matrix heads_gradient;     ///< [B * G, H * C]
  Matrix query_gradient;     ///< [B * G, H * C]
  Matrix x_gradient;         ///< [B * G, E]

  void take(Pieces& pieces, const GlobalBranchShape& shape);
};

/// Attention of the global rows alone, with query, key and value projections of their own, to all
/// tokens that they see (visible.hpp), without a key or value of any token. For the global row at
/// position i and head h, x the normed input:
///
///   q = Wq_h x_i + bq_h                    [C]
///   u = Wk_h^T q / sqrt(C)                 [E]   the key projection, folded into the query
///   p = softmax over visible j of x_j . u
///   y = sum_j p_j x_j                      [E]
///   out = Wv_h y + bv_h                    [C]   the value projection, after the mean
///
/// which is softmax(q . k / sqrt(C)) v with k_j = Wk x_j and v_j = Wv x_j + bv, exactly: a bias of
/// the keys would add the same to all scores of a softmax, so there is none. It costs 2 G H / E of
/// what the two N x E x E products would, and no memory that grows with N.
///
/// The branch sees content and not positions: nothing is rotated, because a rotation of the keys
/// depends on j and cannot be folded.
///
/// A row that sees nothing (a sequence of length 0), and one that no context holds (its position
/// lies beyond the micro-batch's tokens), gives 0, not bv, and has no gradient.
///
/// Over contexts: the inputs of the global rows are summed (each is on one context), the softmaxes
/// over each context's tokens are gathered and joined, the gradient of u is summed: messages do not
/// grow with N. Over shards: nothing; each has whole heads.
/// Separate projections: Beltagy et al., arXiv 2004.05150, section 3.1. The fold is plain algebra.
struct GlobalBranch {
  HeldMatrix query;       ///< [H * C, E] of this shard
  HeldMatrix key;         ///< [H * C, E]
  HeldMatrix value;       ///< [H * C, E]
  HeldVector query_bias;  ///< [H * C]
  HeldVector value_bias;  ///< [H * C]
  index_t heads = 0;      ///< H, of this shard
  Sparsity sparsity;      ///< whose globals are the rows, ascending

  /// Those of the query; the others are folded.
  ProductWeights product_weights(const Pass& pass) const {
    return {query.weights(pass), {.multiply = pass.training, .multiply_transposed = true}};
  }
  /// x [B * N, E], all rows on every shard; out [B * G, H * C], the same on every context.
  void forward(const Pass& pass, const MicroBatch& batch, ConstMatrix x,
               const GlobalBranchActivations& kept, const GlobalBranchScratch& scratch,
               Matrix out) const;
  /// out_gradient [B * G, H * C], the same on every context. x_gradient [B * N, E] is added to:
  /// this shard's part, to be summed over the shards. The gradients of the branch's weights are
  /// whole on every context, and added on the first one.
  void backward(const Pass& pass, const MicroBatch& batch, const GlobalBranchActivations& kept,
                ConstMatrix x, ConstMatrix out_gradient, const GlobalBranchScratch& scratch,
                Matrix x_gradient) const;
};

}  // namespace weir::worker
