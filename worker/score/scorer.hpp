#pragma once

#include <memory>
#include <optional>
#include <span>

#include "common/io/checkpoint_format.hpp"
#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/models/unit_chain.hpp"

namespace weir::worker {

/// A trained model that answers: the weights of a checkpoint and forward passes with them, in one
/// process. Takes the same way through the units as training does (UnitChain).
class Scorer {
 public:
  /// model: as trained, but for the length. Throws Error, listing what differs, if the tensors of
  /// the checkpoint are not those of this model, before anything is allocated for it.
  Scorer(const CheckpointReader& reader, const ModelConfig& model, index_t micro_batch,
         index_t threads);

  const ModelConfig& config() const { return model_.config(); }

  /// Loss of at most micro_batch sequences, without dropout.
  Loss loss(const MicroBatch& batch);
  /// logits[v]: of token v after these, 1 to config().length of them. For a language model.
  void next_token_logits(std::span<const std::int32_t> tokens, std::span<float> logits);

 private:
  Pass pass();

  TransformerModel model_;
  index_t micro_batch_;
  CpuKernels kernels_;
  SingleShard alone_;
  SingleContext whole_;
  std::unique_ptr<BucketPlan> plan_;
  Buffer weights_;
  std::optional<UnitChain> units_;
};

}  // namespace weir::worker
