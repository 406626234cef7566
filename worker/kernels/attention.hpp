#pragma once

#include <span>

#include "common/base/interval.hpp"
#include "common/number/tensor.hpp"
#include "worker/kernels/visible.hpp"

namespace weir::worker {

/// What attention reads of one micro-batch: B sequences, of which N successive tokens lie here, H
/// heads of C features; G global tokens. Queries and keys are rotated already.
///
/// The keys of a query may lie elsewhere: with another context (before, after), or anywhere
/// (globals). So global tokens that lie here are in both qkv and globals.
struct AttentionInput {
  index_t heads = 0;                 ///< H
  index_t first = 0;                 ///< position of the first of the N tokens
  std::span<const index_t> lengths;  ///< [B], tokens of the whole sequences before padding
  const Sparsity* sparsity = nullptr;
  ConstMatrix qkv;      ///< [B * N, 3 H C]: queries of all heads, then keys, then values
  ConstMatrix before;   ///< [B * L, 2 H C]: keys and values of the L tokens before `first`
  ConstMatrix after;    ///< [B * R, 2 H C]: and of the R tokens from first + N on
  ConstMatrix globals;  ///< [B * G, 3 H C]: as qkv, the global tokens in ascending order

  index_t sequences() const { return std::ssize(lengths); }
  index_t tokens() const { return qkv.extent(0) / sequences(); }
  index_t width() const { return qkv.extent(1) / 3; }
  index_t channels() const { return width() / heads; }
  index_t global_count() const { return globals.extent(0) / sequences(); }
  /// The global queries of a sequence that are computed here: all in the form `shared`. In the
  /// other forms the global branch, which has their projections, computes them.
  index_t global_queries() const {
    return sparsity->form == GlobalForm::shared ? global_count() : 0;
  }
};

/// What attention is done for in one call: tokens [begin, end) of the N here, of the sequences
/// [first_sequence, first_sequence + sequences). Calls go through the tokens in ascending order.
struct AttentionStrip {
  index_t first_sequence = 0;
  index_t sequences = 0;
  Interval tokens;
};

/// What backward needs of forward, and the gradient that comes in. The second half holds global
/// queries, and nothing else does.
struct AttentionOutput {
  ConstMatrix out;             ///< [B * N, H C]
  ConstVector log_sum;         ///< [B * H * N]
  ConstMatrix out_gradient;    ///< [tokens of the strip, H C], sequence by sequence
  ConstMatrix global_out;      ///< [B * G, H C]
  ConstVector global_log_sum;  ///< [B * G * H]
  ConstMatrix global_out_gradient;
};

/// Gradients of an AttentionInput. `qkv` is overwritten (its queries strip by strip; keys and
/// values of a token when a call first reaches them, later calls add to them); to the others is
/// added. They have the dtype of the input but for `globals`, which is f32: every block of queries
/// adds to its keys and values, and in a low type a long sum stands still.
struct AttentionGradients {
  Matrix qkv;
  Matrix before;
  Matrix after;
  Matrix globals;
};

}  // namespace weir::worker
