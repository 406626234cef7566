#pragma once

#include "worker/layers/pass.hpp"

namespace weir::worker {

/// One piece of the model: the embedding, a block, or the head; part of it if the stage is cut into
/// shards. Three explicit calls, no tape. What backward needs of a micro-batch stays in the unit
/// under the micro-batch's slot (0 … slots - 1); forward of the next micro-batch in a slot
/// overwrites it.
///
/// Order for a slot: forward, backward, weight_gradient. A unit's weight_gradient follows its
/// backward before any other call to a unit of the stage: the gradients between the two lie in
/// scratch memory that the stage's units share.
///
/// All gradients are those of the sum of the losses. Every shard ends with the complete gradients
/// of what it holds: its own rows of what is split, equal numbers everywhere of what is not. Every
/// context ends with what its own tokens add to them, and context 0 with what belongs to a whole
/// sequence; so with losses.
class Unit {
 public:
  virtual ~Unit() = default;
  /// x [B * N, E] becomes the unit's output in place. The embedding ignores what x holds; the head
  /// leaves x unspecified and returns the loss (others return nothing: count 0), the same on every
  /// shard, of the tokens of this context. Gradients may be added to here, too: see the heads.
  virtual Loss forward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix x) = 0;
  /// gradient [B * N, E], of the output, becomes that of the input, in place. The head ignores what
  /// it holds and starts from its loss; the embedding leaves it unspecified.
  virtual void backward(const Pass& pass, const MicroBatch& batch, index_t slot,
                        Matrix gradient) = 0;
  /// Adds to pass.gradients what forward and backward have not added on their way.
  virtual void weight_gradient(const Pass& pass, const MicroBatch& batch, index_t slot) = 0;
};

}  // namespace weir::worker
