#pragma once

#include <span>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"
#include "ps/update/store.hpp"

namespace weir::ps {

/// A second copy of all buckets of a server: weights, each of the optimizer's slots, and for a
/// checkpoint the weights as readers of differences have them. It allocates this memory when it is
/// first copied to.
class Copies {
 public:
  /// `plan` must outlive it; `slots`: how many the optimizer has; with_sent: whether
  /// Store::sent_weights are copied.
  Copies(const BucketPlan& plan, index_t server, index_t slots, bool with_sent);

  void take(index_t bucket, Store& store);
  void take_all(Store& store);
  /// Puts the bucket back into the store as it was at the last take() of it. What its readers have
  /// cannot be taken back.
  void put_back(index_t bucket, Store& store) const;

  index_t count() const { return 1 + slots_ + (with_sent_ ? 1 : 0); }
  /// [elements] of a bucket: its weights (0), a slot (from 1 on), or what was sent (the last).
  std::span<const float> of(index_t bucket, index_t which) const;

 private:
  std::span<float> place(index_t bucket, index_t which);

  const BucketPlan* plan_;
  index_t slots_;
  bool with_sent_;
  List<index_t> offsets_;  ///< where each bucket of the plan is in a copy; -1: another server's
  index_t element_count_ = 0;
  List<Buffer> copies_;
};

}  // namespace weir::ps
