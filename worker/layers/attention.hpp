#pragma once

#include <optional>
#include <vector>

#include "worker/layers/global_branch.hpp"
#include "worker/layers/linear.hpp"
#include "worker/layers/pieces.hpp"

namespace weir::worker {

/// What the sizes of attention's memory follow from.
struct AttentionShape {
  index_t sequences = 0;     ///< B of a micro-batch, at most
  index_t rows = 0;          ///< B * N, at most
  index_t width = 0;         ///< E
  index_t heads = 0;         ///< this shard's
  index_t head_size = 0;     ///< C
  index_t globals = 0;       ///< G
  index_t branch_heads = 0;  ///< this shard's, in a branch for global tokens; 0: none
  index_t contexts = 1;
  index_t left = 0;          ///< rows of a sequence from the previous context: none if there is one
  index_t right = 0;         ///< and from the next
  index_t strip_tokens = 0;  ///< worked on at a time: Kernels::attention_strip(part())
  index_t branch_strip_tokens = 0;  ///< for a branch: Kernels::product_strip(tokens, width)
  Dtype dtype = Dtype::f32;         ///< that of activations; logarithms and sums are f32

  index_t part() const { return heads * head_size; }
  index_t global_rows() const { return sequences * globals; }
};

/// What the backward of attention needs of one micro-batch.
struct AttentionActivations {
  Matrix qkv;      ///< [B * N, 3 * heads * C], rotated
  Matrix out;      ///< [B * N, heads * C], before the output projection
  Vector log_sum;  ///< [B * heads * N]
  Matrix before;   ///< [B * left, 2 * heads * C], keys and values of the previous context's border
  Matrix after;    ///< [B * right, 2 * heads * C], of the next one's
  Matrix globals;  ///< [B * G, 3 * heads * C], as qkv, of the global tokens of all contexts
  Matrix global_out;      ///< [B * G, heads * C], as out
  Vector global_log_sum;  ///< [B * G * heads]
  GlobalBranchActivations branch;

  void take(Pieces& pieces, const AttentionShape& shape);
};

/// Memory that attention needs during a call.
struct AttentionScratch {
  index_t strip_tokens = 0;      ///< S, tokens of a strip
  Matrix heads_gradient;         ///< [S, heads * C]
  Vector part;                   ///< [B * G * heads * (C + 2)], softmax of the global queries
  Vector parts;                  ///< those of all contexts
  Matrix global_rows;            ///< [B * G, E], of inputs, outputs or their gradients
  Matrix global_heads_gradient;  ///< [B * G, heads * C]
  Matrix globals_gradient;       ///< [B * G, 3 * heads * C], f32: many queries add to it
  Matrix globals_rows_gradient;  ///< the same memory, or another in the low type
  Matrix before_gradient;        ///< as before, and so on
  Matrix after_gradient;
  Matrix first_border;  ///< [B * right, 2 * heads * C], of the first tokens here
  Matrix last_border;   ///< [B * left, 2 * heads * C], of the last
  GlobalBranchScratch branch;

  void take(Pieces& pieces, const AttentionShape& shape);
};

/// Attention of each token to its window and to the global tokens, from the normed input to what is
/// added to the residual:
///
///   q, k, v = x Wq^T + bq, x Wk^T + bk, x Wv^T + bv   (one product: the slices are neighbours)
///   out = concatenated over heads(attention(rotated q, rotated k, v)) Wo + bo
///
/// Shards hold whole heads: `heads` of them each, of head_size C. One sum over the shards forward,
/// of which each gets its own rows.
///
/// Tokens go through projection, attention and output projection in strips that stay in the cache.
/// A context that holds a part of a sequence sends its neighbours the keys and values within the
/// window of the border (and gets their gradients back), and all contexts the rows of its global
/// tokens; the softmax of global queries over the tokens of all contexts is merged from its parts
/// (maximum, sum, output). None of this grows with the sequence.
struct AttentionLayer {
  ColumnLinear query_key_value;
  RowLinear output;
  index_t heads = 0;  ///< this shard's
  bool rotary = true;
  Sparsity sparsity;
  std::optional<GlobalBranch> branch;  ///< only in the forms `separate` and `split`
  std::optional<RowLinear>
      branch_output;  ///< `split` has it; else the branch's output goes through `output`

  /// x, out [B * N, E]: all rows of x on every shard; of out this shard's own rows are complete.
  void forward(const Pass& pass, const MicroBatch& batch, ConstMatrix x,
               const AttentionActivations& kept, const AttentionScratch& scratch, Matrix out) const;
  /// out_gradient, all rows, is kept by the caller for weight_gradient; in the form `split` its
  /// rows of global tokens become 0. x, the input of forward, is read for a branch alone, and the
  /// branch's weights get their gradients here. x_gradient [B * N, E] is overwritten with this
  /// shard's part, to be summed over the shards. qkv_gradient [B * N, 3 * heads * C] is overwritten
  /// and kept by the caller, too.
  void backward(const Pass& pass, const MicroBatch& batch, const AttentionActivations& kept,
                ConstMatrix x, Matrix out_gradient, const AttentionScratch& scratch,
                Matrix qkv_gradient, Matrix x_gradient) const;
  void weight_gradient(const Pass& pass, const AttentionActivations& kept, ConstMatrix x,
                       ConstMatrix out_gradient, ConstMatrix qkv_gradient) const;

 private:
  struct Call;
};

}  // namespace weir::worker
