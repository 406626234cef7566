#pragma once

#include <optional>

#include "worker/layers/held.hpp"

namespace weir::worker {

/// Looks up the row of each token in a table and, if positions are learned, adds the row of its
/// position in a second table. The vocabulary is cut over the shards in runs of rows (slice_of). A
/// token counts on the shard that has its row and is zero on the others, so uneven and empty slices
/// need no padding.
struct Embedding {
  HeldMatrix table;       ///< [rows of this shard, E]
  index_t first_row = 0;  ///< the token of the slice's first row
  /// [length, E], on every shard; first + N <= length. Their gradient is a sum over the shards.
  std::optional<HeldMatrix> positions;

  /// out [B * N, E], of which this shard's own rows are complete, by one sum over the
  /// shards.
  void forward(const Pass& pass, const MicroBatch& batch, Matrix out) const;
  /// out_gradient: all rows. The positions get what the own rows add to their gradient.
  /// There is no backward: tokens have no gradient.
  void weight_gradient(const Pass& pass, const MicroBatch& batch, ConstMatrix out_gradient) const;
};

}  // namespace weir::worker
