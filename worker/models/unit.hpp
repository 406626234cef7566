#pragma once

#include <cstdint>
#include <span>

#include "common/number/view.hpp"
#include "worker/kernels/kernels.hpp"
#include "worker/parallel/tensor_group.hpp"

namespace weir::worker {

/// One micro-batch as the units see it. B sequences of N tokens.
struct MicroBatch {
  index_t sequences = 0;                 ///< B
  index_t length = 0;                    ///< N
  std::span<const std::int32_t> tokens;  ///< [B * N]
  std::span<const std::int32_t>
      targets;                       ///< language model: [B * N], -1 where none; else [B] labels
  std::span<const index_t> lengths;  ///< [B], tokens before padding
  std::span<const index_t> samples;  ///< [B], global sample index: the key of dropout
  index_t rows() const { return sequences * length; }
};

/// Loss of one micro-batch, natural logarithm, summed over its loss terms.
struct Loss {
  double sum = 0;
  index_t count = 0;
  index_t correct = 0;  ///< loss terms whose most likely class is the target (classifier only)

  Loss& operator+=(const Loss& other) {
    sum += other.sum;
    count += other.count;
    correct += other.correct;
    return *this;
  }
};

/// What every call needs besides its tensors.
struct Pass {
  Kernels& kernels;
  TensorGroup& shards;
  std::span<const float> weights;  ///< the holder's arena
  std::span<float> gradients;      ///< likewise; empty in evaluation
  std::uint64_t seed = 0;          ///< of dropout
  bool training = true;            ///< false: no dropout, nothing is kept for backward
};

/// One piece of the model: the embedding, a block, or the head; part of it if the stage is cut into
/// shards. Three explicit calls, no tape. What backward needs of a micro-batch stays in the unit
/// under the micro-batch's slot (0 … slots - 1); forward of the next micro-batch in a slot
/// overwrites it.
///
/// Order for a slot: forward, backward, weight_gradient. weight_gradient follows backward before
/// any other call of the unit's backward, so gradients between the two need one copy only, not one
/// a slot.
class Unit {
 public:
  virtual ~Unit() = default;
  /// x [B * N, E] becomes the unit's output in place. The embedding ignores what x holds; the head
  /// leaves x unspecified and returns the loss (others return nothing: count 0).
  virtual Loss forward(const Pass& pass, const MicroBatch& batch, index_t slot, Matrix x) = 0;
  /// gradient [B * N, E], of the output, becomes that of the input, in place. The head ignores what
  /// it holds and starts from its loss; the embedding leaves it unspecified.
  virtual void backward(const Pass& pass, const MicroBatch& batch, index_t slot,
                        Matrix gradient) = 0;
  /// Adds to pass.gradients.
  virtual void weight_gradient(const Pass& pass, const MicroBatch& batch, index_t slot) = 0;
};

}  // namespace weir::worker
