#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/job/bucket.hpp"
#include "worker/models/config.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// What one worker runs of a model.
struct StageCut {
  index_t first_unit = 0;
  index_t last_unit = 0;    ///< included
  index_t contexts = 1;     ///< it holds the tokens of one of them
  index_t shards = 1;       ///< likewise
  index_t micro_batch = 1;  ///< sequences, at most
  Recompute recompute = Recompute::none;
};

/// Rows of a micro-batch on a worker, at most: its sequences times the longest part of one.
index_t rows_of(const ModelConfig& config, const StageCut& cut);

/// The units of `cut`, in forward order, for the worker with this holding (of a plan made from
/// parameter_specs(config)). They serve micro-batches of rows_of(config, cut) rows at most, `slots`
/// at a time, and calls with these kernels alone.
std::vector<std::unique_ptr<Unit>> make_units(const ModelConfig& config, const Holding& holding,
                                              const StageCut& cut, index_t slots,
                                              const Kernels& kernels);

/// What those units allocate, for plans: counted by the code that allocates it.
struct UnitMemory {
  index_t bytes_a_slot = 0;   ///< activations kept for backward, all units together
  index_t scratch_bytes = 0;  ///< once a stage
};
UnitMemory unit_memory(const ModelConfig& config, const StageCut& cut, const Kernels& kernels);

/// logits [vocabulary] of the token after the last one of batch's only sequence, from the units of
/// a whole language model on one shard and context. x [N, d] is scratch. For `weir generate`.
void next_token_logits(std::span<const std::unique_ptr<Unit>> units, const Pass& pass,
                       const MicroBatch& batch, Matrix x, Vector logits);

}  // namespace weir::worker
