#pragma once

#include "common/base/index.hpp"

namespace weir::worker {

/// How backward saves memory; the bits are the same either way.
enum class Recompute {
  none,   ///< units keep what their backward needs
  block,  ///< a block keeps its input alone, and its forward runs again before its backward
};

/// What one worker runs of a model.
struct StageCut {
  index_t first_unit = 0;
  index_t last_unit = 0;    ///< included
  index_t contexts = 1;     ///< it holds the tokens of one context
  index_t shards = 1;       ///< it holds one shard of each matrix
  index_t micro_batch = 1;  ///< sequences, at most
  Recompute recompute = Recompute::none;
  bool training = true;  ///< false: forward alone; nothing is kept for backward
};

/// How many micro-batches a stage has in progress.
struct SlotCounts {
  index_t activations = 1;
  /// 0: every unit's weight_gradient follows its backward at once.
  index_t gradients = 0;
};

/// What the units of a cut allocate, for plans: counted by the code that allocates it.
struct UnitMemory {
  index_t bytes_an_activation_slot = 0;  ///< kept for backward, all units together
  index_t bytes_a_gradient_slot = 0;     ///< kept for weight_gradient, all units together
  index_t scratch_bytes = 0;             ///< once a stage; holds the gradient slot that units share
  index_t packed_bytes = 0;              ///< weights of products, packed by the kernels

  index_t total(const SlotCounts& slots) const {
    return bytes_an_activation_slot * slots.activations + bytes_a_gradient_slot * slots.gradients +
           scratch_bytes + packed_bytes;
  }
};

}  // namespace weir::worker
