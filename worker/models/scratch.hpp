#pragma once

#include "worker/layers/attention.hpp"
#include "worker/layers/loss.hpp"
#include "worker/layers/pieces.hpp"
#include "worker/models/config.hpp"

namespace weir::worker {

/// The cut of a model that one worker runs: what sizes follow from.
struct StageShape {
  ModelConfig config;
  const Kernels* kernels = nullptr;  ///< which say how long strips are
  index_t shards = 1;
  index_t contexts = 1;
  index_t sequences = 0;  ///< of a micro-batch at most
  index_t rows = 0;       ///< of a micro-batch at most: rows_of (model.hpp)
  bool has_head = false;
  Recompute recompute = Recompute::none;

  index_t heads() const { return config.heads / shards; }
  index_t feed_forward() const { return config.feed_forward / shards; }
  /// Rows of the largest vocabulary slice; slices may be smaller or empty.
  index_t vocabulary() const { return (config.vocabulary + shards - 1) / shards; }
};

AttentionShape attention_shape(const StageShape& shape);

/// Memory that the units of a stage use in turn. Contents last no longer than a call, but for the
/// gradients that a unit's weight_gradient finds as its backward has left them.
struct Scratch {
  Matrix normed;               ///< [rows, d]
  Matrix normed_gradient;      ///< [rows, d]
  Matrix attention_branch;     ///< [rows, d], what attention adds; then its gradient
  Matrix feed_forward_branch;  ///< [rows, d], likewise
  AttentionScratch attention;
  Matrix rerun;            ///< [rows, d], a block's input, if its forward runs again
  Matrix hidden;           ///< [rows, feed-forward / T]
  Matrix hidden_gradient;  ///< [rows, feed-forward / T]
  LossScratch loss;        ///< if there is a head of a language model

  void take(Pieces& pieces, const StageShape& shape);
};

}  // namespace weir::worker
