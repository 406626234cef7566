#pragma once

#include <memory>
#include <vector>

#include "worker/layers/attention.hpp"
#include "worker/layers/dropout.hpp"
#include "worker/layers/feed_forward.hpp"
#include "worker/layers/normalize.hpp"
#include "worker/models/held_parameters.hpp"
#include "worker/models/scratch.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// What a block keeps of one micro-batch: some 2 d + 4 d / T + feed-forward / T floats a token.
struct BlockActivations {
  NormActivations attention_norm;
  AttentionActivations attention;
  NormActivations feed_forward_norm;
  FeedForwardActivations feed_forward;

  void take(Pieces& pieces, const StageShape& shape);
};

/// x += dropout(attention(norm(x))); x += dropout(feed_forward(norm(x))).
///
/// Over the shards: one sum in each half forward (in the layers) and one backward, of the gradient
/// to the norm's output; x, norms and dropout are whole and the same on every shard.
class BlockUnit final : public Unit {
 public:
  /// layer: 0 … L - 1. shared: of Recompute::block, what all blocks of a stage keep in turn, since
  /// backward makes it again.
  BlockUnit(const StageShape& shape, index_t layer, const HeldParameters& parameters, index_t slots,
            std::shared_ptr<Scratch> scratch, std::shared_ptr<BlockActivations> shared);

  Loss forward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix x) override;
  void backward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix gradient) override;
  void weight_gradient(const Pass& pass, const MicroBatch& batch, index_t slot) override;

 private:
  BlockActivations& kept(index_t slot) {
    return shared_ ? *shared_ : kept_[static_cast<std::size_t>(slot)];
  }
  void run(const Pass& pass, const MicroBatch& batch, BlockActivations& kept, Matrix x);

  Norm attention_norm_;
  AttentionLayer attention_;
  Dropout attention_dropout_;
  Norm feed_forward_norm_;
  FeedForwardLayer feed_forward_;
  Dropout feed_forward_dropout_;
  std::vector<Carved<BlockActivations>> kept_;  ///< by slot; or none, and
  std::shared_ptr<BlockActivations> shared_;
  std::vector<Memory> inputs_;  ///< by slot
  std::shared_ptr<Scratch> scratch_;
};

}  // namespace weir::worker
