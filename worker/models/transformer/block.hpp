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
/// Each shard has its own rows of x, norms and dropout. Forward, each half gathers the
/// norm's output before its first product and sums over the shards after its second; backward it
/// gathers the gradient to its second product and sums that to the norm's output. While this last
/// sum is under way backward_and_weights computes the gradients of the half's weights.
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
  void backward_and_weights(const Pass& pass, const MicroBatch& batch, Slots slots,
                            const Frame& out_gradient, const Frame& in_gradient) override;
  std::vector<ProductWeights> product_weights(const Pass& pass) const override;

 private:
  const BlockActivations& kept(index_t slot) const {
    return memory_->activations ? *memory_->activations : kept_[slot];
  }
  Vector input(index_t slot, ConstMatrix x) const {
    return inputs_[slot].elements(x.dtype()).first(x.size());
  }
  /// Forward of the own rows, in place.
  void run(const Pass& pass, const MicroBatch& batch, const BlockActivations& kept, Matrix x) const;
  /// All rows of the norm's output, once more.
  Matrix normed_again(const Pass& pass, const MicroBatch& batch, const Norm& norm,
                      const NormActivations& kept) const;
  void backward(const Pass& pass, const MicroBatch& batch, Slots slots, Matrix gradient,
                bool with_weights);
  /// The part of a gradient that enters a branch, through its dropout; it is put into `own_branch`.
  static void into_branch(const Pass& pass, const MicroBatch& batch, const Dropout& dropout,
                          Matrix gradient, Matrix own_branch);
  void feed_forward_backward(const Pass& pass, const MicroBatch& batch,
                             const BlockActivations& kept, const BlockGradients& gradients,
                             Matrix gradient, bool with_weights) const;
  void attention_backward(const Pass& pass, const MicroBatch& batch, const BlockActivations& kept,
                          const BlockGradients& gradients, Matrix gradient,
                          bool with_weights) const;

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
