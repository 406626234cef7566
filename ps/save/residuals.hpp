#pragma once

#include <span>
#include <string>

#include "common/base/list.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"

namespace weir::ps {

/// The residuals of the push wire (common/wire/wire.hpp) as a server keeps them for checkpoints:
/// one for each sum of a group (BucketPlan::group_sum_count) of each of its buckets. Whoever
/// encodes the sum gets them when training begins, and sends them whenever a checkpoint is made; in
/// between only theirs are up to date. That is a worker, or the store, if that adds up the group.
class Residuals {
 public:
  /// Makes residuals of zeros; none if the plan's wire keeps none. `plan` must outlive it.
  Residuals(const BucketPlan& plan, index_t server);

  bool kept() const { return plan_->wire().push.keeps_residual(); }
  /// The number of residuals: sums of groups, summed over the buckets.
  index_t count() const { return count_; }
  std::span<float> of(index_t bucket, index_t group_sum);
  std::span<const float> of(index_t bucket, index_t group_sum) const;

  /// Reads the residuals of a checkpoint. If it was made with other groups or contexts, or by a
  /// wire without residuals, it has none for these sums: they stay zero, and server 0 says so in
  /// the log.
  void load(const CheckpointReader& reader);

 private:
  const BucketPlan* plan_;
  index_t server_;
  index_t count_ = 0;
  List<index_t> offsets_;  ///< one a bucket of the plan; -1: another server's
  Buffer values_;
};

/// The tensors that hold the residuals in a checkpoint: /residual/G.K/NAME for group G and the K-th
/// contributor of a replica to NAME, in the order of the specs, then of the sums. None if the
/// plan's wire keeps none. (A group is a replica, unless --sum-groups says otherwise.)
List<CheckpointRecord> residual_records(const BucketPlan& plan);
inline constexpr const char* kResidualPrefix = "/residual/";

/// The first of residual_records for each parameter: that of its first sum.
List<index_t> first_residual_records(const BucketPlan& plan);

}  // namespace weir::ps
