#pragma once

#include <memory>
#include <vector>

#include "worker/layers/loss.hpp"
#include "worker/layers/normalize.hpp"
#include "worker/models/transformer/held_parameters.hpp"
#include "worker/models/transformer/stage_memory.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// What the head keeps of one micro-batch.
struct LanguageHeadActivations {
  NormActivations norm;
  Matrix normed_gradient;  ///< [own rows, d]

  void take(Pieces& pieces, const StageShape& shape);
};

/// loss = cross-entropy(norm(x) W^T, targets); W is output.weight, or embedding.weight if tied.
///
/// Forward in training also makes the gradient to the norm's output, kept for backward, and adds
/// the gradient of W: so logits are neither kept nor computed twice (layers/loss.hpp). Backward is
/// the norm's; weight_gradient has nothing left to do. Over the shards: the norm's output is
/// gathered, and its gradient is a sum, both in forward.
class LanguageHeadUnit final : public Unit {
 public:
  LanguageHeadUnit(const StageShape& shape, const HeldParameters& parameters,
                   const SlotCounts& slots, std::shared_ptr<const StageMemory> memory);

  Loss forward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& in,
               const Frame& out) override;
  void backward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& out_gradient,
                const Frame& in_gradient) override;
  void weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots) override;
  std::vector<ProductWeights> product_weights(const Pass& pass) const override;
  void predict(const Pass& pass, const MicroBatch& batch, const Frame& in,
               std::span<const index_t> rows, Matrix scores) override;

 private:
  Norm norm_;
  VocabularyLoss loss_;
  std::vector<Carved<LanguageHeadActivations>> kept_;  ///< one a slot
  std::shared_ptr<const StageMemory> memory_;
};

}  // namespace weir::worker
