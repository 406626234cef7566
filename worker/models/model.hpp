#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/job/bucket.hpp"
#include "worker/models/config.hpp"
#include "worker/models/unit.hpp"

namespace weir::worker {

/// Units first_unit … last_unit (both included) of the model, in forward order, for the worker with
/// this holding (of a plan made from parameter_specs(config)), on one of `shards` shards. They
/// serve micro-batches of at most micro_batch * config.length rows, `slots` at a time.
std::vector<std::unique_ptr<Unit>> make_units(const ModelConfig& config, const Holding& holding,
                                              index_t first_unit, index_t last_unit, index_t shards,
                                              index_t slots, index_t micro_batch);

/// What those units allocate, for plans: counted by the code that allocates it.
struct UnitMemory {
  index_t bytes_a_slot = 0;   ///< activations kept for backward, all units together
  index_t scratch_bytes = 0;  ///< once a stage
};
UnitMemory unit_memory(const ModelConfig& config, index_t first_unit, index_t last_unit,
                       index_t shards, index_t micro_batch);

/// logits [vocabulary] of the token after the last one of batch's only sequence, from the units of
/// a whole language model on one shard. x [N, d] is scratch. For `weir generate`.
void next_token_logits(std::span<const std::unique_ptr<Unit>> units, const Pass& pass,
                       const MicroBatch& batch, Matrix x, Vector logits);

}  // namespace weir::worker
