#pragma once

#include <span>
#include <vector>

#include "common/base/error.hpp"
#include "worker/groups/frame.hpp"
#include "worker/layers/held.hpp"

namespace weir::worker {

/// Where a unit finds what it keeps of a micro-batch.
struct Slots {
  index_t activation = 0;  ///< from forward to weight_gradient
  index_t gradient = 0;    ///< from backward to weight_gradient
};

/// One piece of a model that a stage runs; part of it if the stage is cut into shards. Three
/// explicit calls, no tape.
///
/// Order for a micro-batch: forward, backward, weight_gradient. What backward needs of forward
/// stays in the unit under the activation slot; what weight_gradient needs of backward stays under
/// the gradient slot. A later micro-batch in the same slot overwrites it. The schedule says how
/// many slots there are, and make_units is told. If each unit's weight_gradient follows its
/// backward at once, all units of a stage share one gradient slot.
///
/// Frames hold this shard's own rows (TensorGroup).
///
/// All gradients are those of the sum of the losses. Every shard ends with the complete gradients
/// of its slice of a parameter that is split, and with what its own rows add to one that is not;
/// shard 0 with what belongs to a whole sequence. Every context ends with what its own tokens add
/// to all of them, and context 0 with what belongs to a whole sequence; the same holds for losses.
class Unit {
 public:
  virtual ~Unit() = default;
  /// Makes the tensors of the border after the unit (`out`) of those of the border before it
  /// (`in`); where the two borders have equal shapes they are the same memory, and the unit works
  /// in place. The first unit of a model has no `in`. The last has no `out`, leaves `in`
  /// unspecified and returns the loss (others return nothing: count 0), the same on every shard, of
  /// the tokens of this context. Gradients may be added to here, too: see the heads.
  virtual Loss forward(const Pass& pass, const MicroBatch& batch, Slots slots, const Frame& in,
                       const Frame& out) = 0;
  /// The gradients to `in` from those to `out`, in place under the same condition. The last unit
  /// has no out_gradient and starts from its loss; the first has no in_gradient.
  virtual void backward(const Pass& pass, const MicroBatch& batch, Slots slots,
                        const Frame& out_gradient, const Frame& in_gradient) = 0;
  /// Adds to pass.gradients what forward and backward have not added already.
  virtual void weight_gradient(const Pass& pass, const MicroBatch& batch, Slots slots) = 0;
  /// The two calls in one, with the same bits: a unit may compute gradients of weights while sums
  /// over the shards are under way.
  virtual void backward_and_weights(const Pass& pass, const MicroBatch& batch, Slots slots,
                                    const Frame& out_gradient, const Frame& in_gradient) {
    backward(pass, batch, slots, out_gradient, in_gradient);
    weight_gradient(pass, batch, slots);
  }

  /// The weights that the unit's products read in such a pass.
  virtual std::vector<ProductWeights> product_weights(const Pass& pass) const {
    static_cast<void>(pass);
    return {};
  }

  /// Only for the last unit of a model without shards: what it predicts, before any softmax,
  /// instead of a loss. scores[i] belong to rows[i] of `in` (language model), or to sequence
  /// rows[i] (classifier).
  virtual void predict(const Pass& pass, const MicroBatch& batch, const Frame& in,
                       std::span<const index_t> rows, Matrix scores) {
    static_cast<void>(pass), static_cast<void>(batch), static_cast<void>(in);
    static_cast<void>(rows), static_cast<void>(scores);
    WEIR_UNREACHABLE();
  }
};

}  // namespace weir::worker
