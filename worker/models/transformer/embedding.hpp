#pragma once

#include <memory>

#include "worker/layers/dropout.hpp"
#include "worker/layers/embedding.hpp"
#include "worker/models/transformer/held_parameters.hpp"
#include "worker/models/transformer/stage_memory.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// x = dropout(embedding[token] + positions[place]).
class EmbeddingUnit final : public Unit {
 public:
  EmbeddingUnit(const StageShape& shape, const HeldParameters& parameters, const SlotCounts& slots,
                std::shared_ptr<const StageMemory> memory);

  Loss forward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& in,
               const Frame& out) override;
  void backward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& out_gradient,
                const Frame& in_gradient) override;
  void weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots) override;

 private:
  Embedding embedding_;
  Dropout dropout_;
  GradientSlots<EmbeddingGradients> gradients_;
  std::shared_ptr<const StageMemory> memory_;
};

}  // namespace weir::worker
