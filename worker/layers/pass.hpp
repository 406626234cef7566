#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "worker/data/columns.hpp"
#include "worker/groups/context_group.hpp"
#include "worker/groups/tensor_group.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

/// One micro-batch as layers and units see it: N successive tokens of B sequences. If sequences are
/// cut over contexts, these are the tokens of this rank's part.
struct MicroBatch {
  index_t sequences = 0;  ///< B
  index_t length = 0;     ///< N
  /// The columns of the data set: [B * N * elements] if the column is ragged, else [B * elements].
  std::vector<ConstColumn> columns;
  std::span<const index_t> lengths;  ///< [B], tokens of the whole sequences before padding
  std::span<const index_t> samples;  ///< [B], global sample index: the key of dropout
  index_t first = 0;                 ///< position of the first token here in its sequence
  index_t rows() const { return sequences * length; }
  /// A column of whole numbers.
  std::span<const std::int32_t> integers(std::string_view name) const {
    return as<std::int32_t>(column_of(columns, name));
  }
  /// The row of a position of a sequence; -1 if it is not among the tokens here.
  index_t row_of(index_t sequence, index_t position) const {
    const index_t token = position - first;
    return 0 <= token && token < length ? sequence * length + token : -1;
  }
  /// The run of tokens of one sequence that a run of rows holds.
  struct Piece {
    index_t sequence = 0;
    Interval tokens;  ///< counted from the first one here
    index_t row = 0;  ///< where the first of them is, counted from the run's begin
  };
  /// What a run of rows holds of each sequence, in order.
  std::vector<Piece> pieces_of(Interval rows) const {
    std::vector<Piece> pieces;
    for (index_t row = rows.begin; row < rows.end;) {
      const index_t sequence = row / length;
      const index_t first = sequence * length;
      const index_t end = std::min(rows.end, first + length);
      pieces.push_back({sequence, {row - first, end - first}, row - rows.begin});
      row = end;
    }
    return pieces;
  }
  /// row_of these positions of each sequence, [B * positions].
  std::vector<index_t> rows_of(std::span<const index_t> positions) const {
    std::vector<index_t> rows;
    for (index_t b = 0; b < sequences; ++b) {
      for (const index_t position : positions) rows.push_back(row_of(b, position));
    }
    return rows;
  }
};

/// What every call needs besides its tensors.
struct Pass {
  Kernels& kernels;
  TensorGroup& shards;
  ContextGroup& contexts;
  ConstVector weights;     ///< the holder's arena, in Model::weight_dtype
  Vector gradients;        ///< the arena of f32 gradients; empty in evaluation
  std::uint64_t seed = 0;  ///< for dropout
  bool training = true;    ///< false: no dropout, nothing is kept for backward
  /// The head multiplies the gradient of the loss by this power of two, and what follows from it in
  /// backward is so much larger or smaller: fp16 has a small range.
  float loss_factor = 1;
};

}  // namespace weir::worker
