#pragma once

#include <memory>

#include "worker/layers/dropout.hpp"
#include "worker/layers/embed.hpp"
#include "worker/models/held_parameters.hpp"
#include "worker/models/scratch.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// x = dropout(embedding[token] + positions[place]).
class EmbeddingUnit final : public Unit {
 public:
  EmbeddingUnit(const ModelConfig& config, const HeldParameters& parameters,
                std::shared_ptr<Scratch> scratch);

  Loss forward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix x) override;
  void backward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix gradient) override;
  void weight_gradient(const Pass& pass, const MicroBatch& batch, index_t slot) override;

 private:
  Embedding embedding_;
  Dropout dropout_;
  std::shared_ptr<Scratch> scratch_;
};

}  // namespace weir::worker
