#pragma once

#include <span>
#include <string>

#include "common/base/list.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"

namespace weir::ps {

/// The residuals of the workers' push wire (common/wire/wire.hpp) as a server keeps them for
/// checkpoints: one for each contributor to each of its buckets. Workers get them when training
/// begins, and send them whenever a checkpoint is made; in between only the workers' are up to
/// date.
class Residuals {
 public:
  /// Makes residuals of zeros; none if the plan's wire keeps none. `plan` must outlive it.
  Residuals(const BucketPlan& plan, index_t server);

  bool kept() const { return plan_->wire().push.keeps_residual(); }
  /// The number of residuals: contributors, summed over the buckets.
  index_t count() const { return count_; }
  std::span<float> of(index_t bucket, index_t contributor);
  std::span<const float> of(index_t bucket, index_t contributor) const;

  /// Reads the residuals of a checkpoint. If it was made with other replicas or contexts, or by a
  /// wire without residuals, it has none for these contributors: they stay zero, and server 0 says
  /// so in the log.
  void load(const CheckpointReader& reader);

 private:
  const BucketPlan* plan_;
  index_t server_;
  index_t count_ = 0;
  List<index_t> offsets_;  ///< one a bucket of the plan; -1: another server's
  Buffer values_;
};

/// The tensors that hold the residuals in a checkpoint: /residual/R.K/NAME for replica R and the
/// K-th contributor of a replica to NAME, in the order of the specs, then of the contributors as
/// Store numbers them. None if the plan's wire keeps none.
List<CheckpointRecord> residual_records(const BucketPlan& plan);
inline constexpr const char* kResidualPrefix = "/residual/";

/// The first of residual_records for each parameter: that of contributor 0.
List<index_t> first_residual_records(const BucketPlan& plan);

}  // namespace weir::ps
