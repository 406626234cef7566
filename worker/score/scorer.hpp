#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/io/checkpoint_format.hpp"
#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"
#include "worker/data/batch.hpp"
#include "worker/groups/worker_groups.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/models/unit_chain.hpp"

namespace weir::worker {

/// What each rank of a job that scores knows. As it stands: one worker with the whole model.
struct ScorerPlace {
  Layout layout = {.placement = Placement::local};
  WorkerPlace place;
  std::vector<index_t> first_units = {0};  ///< each stage's
  WorkerGroups* groups = nullptr;          ///< outlives the scorer; none: alone
};

/// A trained model that answers: the weights of a checkpoint and forward passes with them, cut into
/// shards, contexts and stages and repeated as replicas like a model in training. It runs the units
/// through a UnitChain, as training does.
class Scorer {
 public:
  /// model: as trained, except for the length. Throws as check() does, before anything is
  /// allocated. Each rank reads the slices that it holds. Sends no messages.
  Scorer(const CheckpointReader& reader, const ModelConfig& model, index_t micro_batch,
         index_t threads, const ScorerPlace& where = {}, ProductChoice products = {});

  /// Throws Error, listing what differs, if the tensors of the checkpoint are not those of this
  /// model. Then the model is as large as the file, whatever its settings say.
  static void check(const CheckpointReader& reader, const ModelConfig& model);

  const ModelConfig& config() const { return model_.config(); }
  /// The largest frames that this rank's link carries, for the groups of all ranks.
  static GroupShape group_shape(const Model& model, const StageCut& cut);
  /// What a rank at this place runs.
  static StageCut cut_of(const Model& model, index_t micro_batch, const ScorerPlace& where);

  /// The loss of these validation samples, without dropout. Every rank of the job calls it and gets
  /// the loss of all samples. Replicas take equal shares. `progress` is called with the number of
  /// samples that this rank has done and the number that it will do.
  Loss score(const Dataset& dataset, std::span<const index_t> samples,
             const std::function<void(index_t done, index_t total)>& progress = {});

  /// The loss of at most micro_batch sequences. Only for one worker alone.
  Loss loss(const MicroBatch& batch);
  /// logits[v] belong to token v after `tokens`, of which there are 1 to config().length. Only for
  /// one worker alone with a language model.
  void next_token_logits(std::span<const std::int32_t> tokens, std::span<float> logits);

 private:
  Pass pass();
  Vector arena() const { return weights_.elements(model_.weight_dtype()); }
  /// One micro-batch: what comes from the previous stage, through this one, to the next.
  Loss forward(const MicroBatch& batch, index_t index);

  TransformerModel model_;
  index_t micro_batch_;
  ScorerPlace where_;
  WorkerGroups alone_;
  WorkerGroups& groups_;
  CpuKernels kernels_;
  std::unique_ptr<BucketPlan> plan_;
  Memory weights_;
  std::optional<UnitChain> units_;
};

}  // namespace weir::worker
