#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/job/bucket.hpp"
#include "tests/worker/models/twin.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/models/unit_chain.hpp"

namespace weir::test {

/// Whole parameters by name.
using Arrays = std::map<std::string, std::vector<float>>;

/// Random weights, larger than the initial ones, and none of them zero or one.
Arrays random_parameters(const worker::ModelConfig& config, std::uint64_t seed);

/// How a model is cut and walked.
struct Cut {
  index_t stages = 1;
  index_t contexts = 1;
  index_t shards = 1;
  index_t slots = 1;  ///< forwards ahead: so many, then as many backwards
  bool training = true;
  worker::Recompute recompute = worker::Recompute::none;
  bool defers_weights = false;  ///< weight gradients after all backwards of the slots
};

struct Outcome {
  std::vector<worker::Loss> losses;  ///< one for each shard, all equal; the sums over the contexts
  Arrays gradients;                  ///< the sums over the contributors, as servers make them
};

/// One step of the model over these micro-batches with CpuKernels: the stages one after the other,
/// contexts and shards as threads.
Outcome run(const worker::ModelConfig& config, const Arrays& parameters,
            const std::vector<BatchData>& micro_batches, const Cut& cut, std::uint64_t seed);

/// Losses and gradients of all of `cuts` against the twin's.
void check_against_twin(const worker::ModelConfig& config, const BatchData& batch,
                        const std::vector<Cut>& cuts);

/// next_token_logits of the whole model in one worker.
std::vector<float> next_logits(const worker::ModelConfig& config, const Arrays& parameters,
                               const BatchData& batch);

Twin twin_of(const worker::ModelConfig& config, const Arrays& parameters);

}  // namespace weir::test
