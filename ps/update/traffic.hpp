#pragma once

#include <optional>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"

namespace weir::ps {

/// The traffic of one server: the contributions that each replica has yet to push, and the weights
/// that have yet to leave. Used if an update does not wait for every replica.
class Traffic {
 public:
  /// Begins as training does: every replica pushes, and every reader gets every bucket. `plan` must
  /// outlive it.
  Traffic(const BucketPlan& plan, index_t server);

  /// Tells that a contribution has come. Returns its replica if it was the last one of that
  /// replica's step.
  std::optional<index_t> arrived(index_t bucket, index_t contributor);
  /// Tells that these replicas begin a step: all their contributions have yet to come.
  void expect(const List<index_t>& replicas);

  /// Tells that a bucket's weights go to all its readers in `replicas` replicas.
  void leaves(index_t bucket, index_t replicas);
  void sent(index_t bucket);  ///< the weights have left for one reader
  /// Whether the weights have left for all readers and may be stepped where they lie.
  bool has_left(index_t bucket) const { return unsent_[bucket] == 0; }

 private:
  const BucketPlan* plan_;
  index_t pushes_ = 0;     ///< how many a replica makes to this server in a step
  List<index_t> missing_;  ///< contributions of each replica
  List<index_t> unsent_;   ///< readers of each bucket of the plan
};

}  // namespace weir::ps
