#pragma once

#include <span>
#include <string>

#include "common/base/list.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"
#include "ps/update/store.hpp"

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

  /// Reads the residuals of a checkpoint. If it was made with other groups, contexts or shards, or
  /// by a wire without residuals, it has none for these sums: they stay zero, and server 0 says so
  /// in the log.
  void load(const CheckpointReader& reader);

 private:
  const BucketPlan* plan_;
  index_t server_;
  index_t count_ = 0;
  List<index_t> offsets_;  ///< one a bucket of the plan; -1: another server's
  Buffer values_;
};

/// The tensors of a checkpoint that error feedback needs. Those of pulls, in the order of the
/// specs: /residual/pull/NAME holds the weights as their readers have them, from which /model/NAME
/// differs by what they have not been sent. (A difference in f32 would not always give these
/// weights back.) Then those of pushes: /residual/G.K/NAME for group G and the K-th contributor of
/// a replica to NAME, in the order of the specs, then of the sums. None of either kind if the
/// plan's wire keeps none. (A group is a replica, unless --sum-groups says otherwise.)
List<CheckpointRecord> residual_records(const BucketPlan& plan);
inline constexpr const char* kResidualPrefix = "/residual/";
inline constexpr const char* kPullResidualPrefix = "/residual/pull/";

/// Reads the weights as readers of differences have them into the store, which has its weights. If
/// the checkpoint has none of this model, readers begin with the weights, and the log says so if
/// `tells`.
void load_sent_weights(const CheckpointReader& reader, const BucketPlan& plan, Store& store,
                       bool tells);

/// The first of residual_records of pushes for each parameter: that of its first sum.
List<index_t> first_residual_records(const BucketPlan& plan);

}  // namespace weir::ps
