#pragma once

#include <memory>
#include <vector>

#include "worker/layers/attention.hpp"
#include "worker/layers/dropout.hpp"
#include "worker/layers/feed_forward.hpp"
#include "worker/layers/normalize.hpp"
#include "worker/models/transformer/held_parameters.hpp"
#include "worker/models/transformer/stage_memory.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// x += dropout(attention(norm(x))); x += dropout(feed_forward(norm(x))).
///
/// Over the shards: one sum in each half forward (in the layers) and one backward, of the gradient
/// to the norm's output; x, norms and dropout are whole and the same on every shard.
class BlockUnit final : public Unit {
 public:
  /// layer: 0 … L - 1.
  BlockUnit(const StageShape& shape, index_t layer, const HeldParameters& parameters,
            const SlotCounts& slots, std::shared_ptr<const StageMemory> memory);

  Loss forward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& in,
               const Frame& out) override;
  void backward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& out_gradient,
                const Frame& in_gradient) override;
  void weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots) override;
  std::vector<ProductWeights> product_weights(const Pass& pass) const override;

 private:
  const BlockActivations& kept(index_t slot) const {
    return memory_->activations ? *memory_->activations : kept_[slot];
  }
  Vector input(index_t slot, ConstMatrix x) const {
    return inputs_[slot].elements(x.dtype()).first(x.size());
  }
  void run(const Pass& pass, const MicroBatch& batch, const BlockActivations& kept, Matrix x) const;

  Norm attention_norm_;
  AttentionLayer attention_;
  Dropout attention_dropout_;
  Norm feed_forward_norm_;
  FeedForwardLayer feed_forward_;
  Dropout feed_forward_dropout_;
  std::vector<Carved<BlockActivations>> kept_;  ///< one an activation slot, or
  std::vector<Memory> inputs_;                  ///< if the stage has one BlockActivations for all
  GradientSlots<BlockGradients> gradients_;
  std::shared_ptr<const StageMemory> memory_;
};

}  // namespace weir::worker
