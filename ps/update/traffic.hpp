#pragma once

#include <optional>
#include <vector>

#include "common/job/bucket.hpp"

namespace weir::ps {

/// What is on its way to one server and from it, where an update does not wait for every replica:
/// the contributions that each replica has yet to push, and the weights that have yet to leave.
class Traffic {
 public:
  /// As training begins: every replica pushes, and every reader gets every bucket. `plan` must
  /// outlive it.
  Traffic(const BucketPlan& plan, index_t server);

  /// A contribution has come: its replica, if it was the last one of this replica's step.
  std::optional<index_t> arrived(index_t bucket, index_t contributor);
  /// These replicas begin a step: all their contributions are yet to come.
  void expect(const std::vector<index_t>& replicas);

  /// A bucket's weights go to all its readers in so many replicas.
  void leaves(index_t bucket, index_t replicas);
  void sent(index_t bucket);  ///< to one of them
  /// The weights have left for all readers: they may be stepped where they lie.
  bool has_left(index_t bucket) const { return unsent_[static_cast<std::size_t>(bucket)] == 0; }

 private:
  const BucketPlan* plan_;
  index_t pushes_ = 0;            ///< how many a replica makes to this server in a step
  std::vector<index_t> missing_;  ///< contributions of each replica
  std::vector<index_t> unsent_;   ///< readers of each bucket of the plan
};

}  // namespace weir::ps
