#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "common/job/layout.hpp"
#include "common/net/mpi.hpp"
#include "worker/groups/mpi_context_group.hpp"
#include "worker/groups/mpi_tensor_group.hpp"
#include "worker/groups/pipeline_link.hpp"

namespace weir::worker {

/// What a worker's groups carry.
struct GroupShape {
  std::vector<ChunkBorders> chunks;  ///< the pipeline link: this stage's chunks
  index_t slots = 2;                 ///< frames underway, each way
  index_t shard_bytes = 0;           ///< the most that a call among shards moves
  bool may_share = true;             ///< shards of one host may meet in memory, not by messages
};

/// The groups that a worker is in, in training and in scoring: the shards and contexts that its
/// layers sum over, the stages before and after it, and all workers.
class WorkerGroups {
 public:
  /// The groups of a worker that is alone.
  WorkerGroups() = default;
  /// Collective over `workers`, all workers by rank; it outlives this. `progress` is called while
  /// the link and the sums of shards wait (see PipelineLink). `serve` is called while contexts, and
  /// maxima of shards, wait; it is empty if no rank needs this one meanwhile.
  WorkerGroups(const Layout& layout, const WorkerPlace& place, const Comm& workers,
               const GroupShape& shape, std::function<bool()> progress,
               std::function<bool()> serve);

  WorkerGroups(const WorkerGroups&) = delete;  // its shards look at its link
  WorkerGroups& operator=(const WorkerGroups&) = delete;

  TensorGroup& shards() { return shards_ ? static_cast<TensorGroup&>(*shards_) : single_; }
  ContextGroup& contexts() { return contexts_ ? static_cast<ContextGroup&>(*contexts_) : whole_; }
  /// The link to the other stages; none if there is one stage.
  PipelineLink* link() { return link_ ? &*link_ : nullptr; }
  /// Moves what a started sum of the shards has under way.
  void progress() {
    if (shards_) shards_->progress();
  }
  /// values[i] = sum over all workers, on all workers.
  void sum_over_workers(std::span<double> values) const;

 private:
  const Comm* workers_ = nullptr;
  std::function<bool()> progress_;
  SingleShard single_;
  SingleContext whole_;
  std::optional<MpiTensorGroup> shards_;
  std::optional<MpiContextGroup> contexts_;
  std::optional<PipelineLink> link_;
};

}  // namespace weir::worker
