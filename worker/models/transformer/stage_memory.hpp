#pragma once

#include <optional>
#include <vector>

#include "worker/layers/attention.hpp"
#include "worker/layers/feed_forward.hpp"
#include "worker/layers/loss.hpp"
#include "worker/layers/normalize.hpp"
#include "worker/layers/pieces.hpp"
#include "worker/models/model.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::worker {

/// The cut of a model that one worker runs: what sizes follow from.
struct StageShape {
  ModelConfig config;
  const Kernels* kernels = nullptr;  ///< which say how long strips are
  index_t shards = 1;
  index_t contexts = 1;
  index_t sequences = 0;  ///< sequences of a micro-batch, at most
  index_t rows = 0;       ///< at most: largest_batch (model.hpp)
  index_t own_rows = 0;   ///< at most, likewise: those that a shard has between products
  bool has_head = false;
  Recompute recompute = Recompute::none;
  bool training = true;

  index_t heads() const { return config.heads / shards; }
  index_t feed_forward() const { return config.feed_forward / shards; }
  /// Whether blocks keep what their backward needs in one place, in turn.
  bool shares_activations() const { return recompute == Recompute::block || !training; }
  /// Bytes of a block's input, which is all that a block keeps of its own if they share.
  index_t input_bytes() const {
    return training ? own_rows * config.width * bytes_of(config.dtype) : 0;
  }
  /// Rows of the largest vocabulary slice; slices may be smaller or empty.
  index_t vocabulary() const { return (config.vocabulary + shards - 1) / shards; }
};

/// What packed weights of a block, and of the head, take: those of product_weights().
index_t packed_bytes_of_block(const StageShape& shape);
index_t packed_bytes_of_head(const StageShape& shape);

AttentionShape attention_shape(const StageShape& shape);

/// Memory that the units of a stage use in turn. Contents last no longer than a call.
struct UnitScratch {
  Matrix normed;  ///< [rows, d]
  Matrix branch;  ///< [rows, d]: what half a block adds; in backward the gradient to `normed`
  Matrix whole;   ///< [rows, d], if there are several shards: all rows of what each has its own of
  AttentionScratch attention;
  Matrix rerun;      ///< [own rows, d], a block's input, if its forward runs again
  Matrix hidden;     ///< [rows, feed-forward / T]
  LossScratch loss;  ///< if there is a head of a language model

  void take(Pieces& pieces, const StageShape& shape);

  /// All rows of what each shard has its own of: `own` itself if there is one shard.
  Matrix gathered(const Pass& pass, const MicroBatch& batch, Matrix own) const;
  /// Room, in `branch`, for all rows of a sum over the shards of which this one wants its own,
  /// which keep() puts into `own`. It is `own` itself if there is one shard.
  Matrix room_for(const Pass& pass, const MicroBatch& batch, Matrix own) const;
  void keep(const Pass& pass, Matrix all, Matrix own) const;
};

/// What a block's weight_gradient needs of its backward, for one micro-batch.
struct BlockGradients {
  Matrix attention_branch;     ///< [own rows, d], the gradient to what attention adds
  Matrix feed_forward_branch;  ///< [own rows, d], likewise
  Matrix qkv;                  ///< [rows, 3 d / T]
  Matrix hidden;               ///< [rows, feed-forward / T]

  void take(Pieces& pieces, const StageShape& shape);
};

/// The same of the embedding.
struct EmbeddingGradients {
  Matrix output;  ///< [own rows, d]

  void take(Pieces& pieces, const StageShape& shape);
};

/// What a block keeps of one micro-batch: some (6 d + feed-forward) / T floats a token.
struct BlockActivations {
  NormActivations attention_norm;
  AttentionActivations attention;
  NormActivations feed_forward_norm;
  FeedForwardActivations feed_forward;

  void take(Pieces& pieces, const StageShape& shape);
};

/// What the units of a stage share.
struct StageMemory {
  explicit StageMemory(const StageShape& shape)
      : scratch(shape.kernels->memory(), shape), gradients(shape.kernels->memory(), shape) {
    if (shape.shares_activations()) activations.emplace(shape.kernels->memory(), shape);
  }
  /// Bytes that it owns.
  static index_t bytes(const StageShape& shape) {
    return Carved<UnitScratch>::bytes(shape) + Carved<BlockGradients>::bytes(shape) +
           (shape.shares_activations() ? Carved<BlockActivations>::bytes(shape) : 0);
  }

  Carved<UnitScratch> scratch;
  Carved<BlockGradients> gradients;  ///< for units without gradient slots of their own
  /// What the block that runs keeps, if blocks share it: backward makes it again, or there is no
  /// backward.
  std::optional<Carved<BlockActivations>> activations;
};

/// Memory for the gradient slots of a unit, or, if it has none of its own, the set that all units
/// of the stage use in turn.
template <class Gradients>
class GradientSlots {
 public:
  GradientSlots(const StageShape& shape, index_t slots, const Gradients& of_stage)
      : of_stage_(of_stage) {
    for (index_t slot = 0; slot < slots; ++slot) {
      own_.emplace_back(shape.kernels->memory(), shape);
    }
  }
  const Gradients& operator[](index_t slot) const { return own_.empty() ? of_stage_ : own_[slot]; }

 private:
  std::vector<Carved<Gradients>> own_;
  Gradients of_stage_;
};

}  // namespace weir::worker
