#pragma once

#include <memory>
#include <vector>

#include "worker/layers/linear.hpp"
#include "worker/layers/normalize.hpp"
#include "worker/models/transformer/held_parameters.hpp"
#include "worker/models/transformer/stage_memory.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// What the head keeps of one micro-batch.
struct ClassifierHeadActivations {
  NormActivations norm;
  Matrix pooled;           ///< [sequences, pooled width]
  Matrix logits_gradient;  ///< [sequences, classes]; the logits at first
  Matrix pooled_gradient;  ///< [sequences, pooled width]
  Vector maximum;          ///< [sequences], as the next two
  Vector exponential_sum;
  Vector target_logit;

  void take(Pieces& pieces, const StageShape& shape, index_t sequences);
};

/// loss = cross-entropy(pooled(norm(x)) W^T + b, labels), one loss term a sequence; Pooling says
/// which. It is small and not cut: every shard gathers the norm's output and computes all that
/// follows. The pooling is one sum over the contexts, and every context computes what follows. The
/// loss that counts is that of context 0; the gradients of W and b are those of its shard 0.
class ClassifierHeadUnit final : public Unit {
 public:
  /// sequences: of a micro-batch, at most.
  ClassifierHeadUnit(const StageShape& shape, index_t sequences, const HeldParameters& parameters,
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
  void pool(const Pass& pass, const MicroBatch& batch, ConstMatrix x, Matrix pooled) const;
  /// x_gradient is overwritten.
  void pool_backward(const Pass& pass, const MicroBatch& batch, ConstMatrix pooled_gradient,
                     Matrix x_gradient) const;

  Pooling pooling_;
  index_t first_local_;  ///< the first position that is not global
  Norm norm_;
  ColumnLinear classes_;                                 ///< all of them
  std::vector<Carved<ClassifierHeadActivations>> kept_;  ///< one a slot
  std::shared_ptr<const StageMemory> memory_;
};

}  // namespace weir::worker
