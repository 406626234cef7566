#pragma once

#include <memory>
#include <vector>

#include "worker/layers/loss.hpp"
#include "worker/layers/normalize.hpp"
#include "worker/models/held_parameters.hpp"
#include "worker/models/scratch.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// What the head keeps of one micro-batch.
struct LanguageHeadActivations {
  NormActivations norm;
  Matrix normed_gradient;  ///< [rows, d], this shard's part

  void take(Pieces& pieces, const StageShape& shape);
};

/// loss = cross-entropy(norm(x) W^T, targets); W is output.weight, or embedding.weight if tied.
///
/// Forward in training also makes the gradient to the norm's output, kept for backward, and adds
/// the gradient of W: so logits are neither kept nor computed twice (layers/loss.hpp). Backward is
/// one sum over the shards and the norm's; weight_gradient has nothing left to do.
class LanguageHeadUnit final : public Unit {
 public:
  LanguageHeadUnit(const StageShape& shape, const HeldParameters& parameters, index_t slots,
                   std::shared_ptr<Scratch> scratch);

  Loss forward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix x) override;
  void backward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix gradient) override;
  void weight_gradient(const Pass& pass, const MicroBatch& batch, index_t slot) override;

  /// Logits of this shard's tokens after each row of x [R, d], R at most the rows of a micro-batch;
  /// out [R, tokens of this shard].
  void logits(const Pass& pass, ConstMatrix x, Matrix out);

 private:
  Norm norm_;
  VocabularyLoss loss_;
  std::vector<Carved<LanguageHeadActivations>> kept_;  ///< by slot
  std::shared_ptr<Scratch> scratch_;
};

}  // namespace weir::worker
