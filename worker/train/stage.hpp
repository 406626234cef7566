#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/job/parameter_service.hpp"
#include "worker/data/batch.hpp"
#include "worker/groups/pipeline_link.hpp"
#include "worker/models/unit_chain.hpp"
#include "worker/schedule/schedule.hpp"
#include "worker/train/loss_scaling.hpp"

namespace weir::worker {

/// A run of units on a stage.
struct ChunkParts {
  StageCut cut;
  SlotCounts slots;  ///< micro-batches underway, at most
};

/// What a stage is made of. References outlive the stage.
struct StageParts {
  index_t stage = 0;
  const Model* model = nullptr;
  const Holding* holding = nullptr;  ///< this worker's
  std::vector<ChunkParts> chunks;    ///< its chunks, in ascending order
  const Dataset* dataset = nullptr;
  ParameterService* parameters = nullptr;
  Kernels* kernels = nullptr;
  TensorGroup* shards = nullptr;
  ContextGroup* contexts = nullptr;
  PipelineLink* link = nullptr;  ///< none if there is one stage
  std::uint64_t seed = 0;
};

/// One shard of one context of one stage of one replica. Walks the stage's list of actions and
/// knows nothing of why they stand in this order.
class Stage {
 public:
  explicit Stage(StageParts parts);

  /// Forward and backward of this replica's micro-batches of one update: micro-batch i holds the
  /// training samples from first_samples[i] on. Awaits parameters before their first
  /// use and calls ready() after their last gradient. Backward runs with Pass::loss_factor, and the
  /// gradients are without it when they are ready. The loss of this context's tokens on the last
  /// stage, 0 terms elsewhere; it never has the factor.
  Loss train(const Schedule& schedule, std::span<const index_t> first_samples,
             float loss_factor = 1);

  /// Forward without dropout of the validation samples `samples`: micro-batch i takes
  /// samples[i * micro_batch …]. Weights must have been awaited.
  Loss evaluate(const Schedule& schedule, std::span<const index_t> samples);

 private:
  /// A run of units with what passes between it and its neighbours.
  struct Chunk {
    UnitChain units;
    std::vector<Batch> batches;  ///< one an activation slot
    Frame to_next = {};          ///< what the newest forward has made
    Frame to_previous = {};      ///< what the newest backward has made
    const Frame* from_previous = nullptr;
    const Frame* from_next = nullptr;
  };

  Chunk make_chunk(const ChunkParts& parts) const;
  Chunk& chunk_of(const Schedule& schedule, const Action& action);
  Pass pass(bool training);
  /// Runs the list; `load(micro_batch, batch)` fills a slot.
  template <class Load>
  Loss run(const Schedule& schedule, bool training, const Load& load);
  Loss forward(bool training, const Action& action, Chunk& chunk);
  /// Backward, or its first half.
  void backward(const Schedule& schedule, const Action& action, Chunk& chunk);
  void weight_gradient(const Action& action, Chunk& chunk);
  /// What follows the last gradient that an action makes for a unit.
  UnitChain::UnitHook after_gradient(bool pushes);

  StageParts parts_;
  std::vector<Chunk> chunks_;
  Unscaling unscaling_;
  float loss_factor_ = 1;  ///< the present step's
};

}  // namespace weir::worker
