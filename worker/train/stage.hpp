#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/job/parameter_service.hpp"
#include "common/number/buffer.hpp"
#include "worker/models/unit.hpp"
#include "worker/parallel/pipeline_link.hpp"
#include "worker/parallel/schedule.hpp"
#include "worker/train/batch.hpp"

namespace weir::worker {

/// What a stage is made of. References outlive the stage.
struct StageParts {
  index_t stage = 0;
  index_t first_unit = 0;                    ///< of the model; units[0] is this one
  std::vector<std::unique_ptr<Unit>> units;  ///< in forward order
  index_t width = 0;                         ///< E, elements of a row between units
  const Dataset* dataset = nullptr;
  index_t micro_batch = 0;       ///< sequences, at most
  index_t fewest_tokens = 1;     ///< of each context in a sequence, padding included
  index_t activation_slots = 1;  ///< micro-batches underway, at most
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
  /// use and calls ready() after their last gradient. The loss of this context's tokens on the last
  /// stage, 0 terms elsewhere.
  Loss train(const Schedule& schedule, std::span<const index_t> first_samples);

  /// Forward without dropout of the validation samples `samples`: micro-batch i takes
  /// samples[i * micro_batch …]. Weights must have been awaited.
  Loss evaluate(const Schedule& schedule, std::span<const index_t> samples);

 private:
  Pass pass(bool training);
  /// Runs the list; `load(micro_batch, batch)` fills a slot.
  template <class Load>
  Loss run(const Schedule& schedule, bool training, const Load& load);
  Loss forward(bool training, const Action& action);
  void backward(const Schedule& schedule, const Action& action);
  Matrix rows_of(Buffer& buffer, const MicroBatch& batch);

  StageParts parts_;
  std::vector<Batch> batches_;  ///< by activation slot
  Buffer output_;               ///< of the newest forward
  Buffer gradient_;             ///< of the newest backward, to the input
  std::span<const float> received_forward_;
  std::span<const float> received_backward_;
};

}  // namespace weir::worker
