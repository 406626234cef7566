#pragma once

#include <span>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"
#include "ps/update/store.hpp"

namespace weir::ps {

/// A second copy of all buckets of a server: weights, then each of the optimizer's slots. It
/// allocates this memory when it is first copied to.
class Copies {
 public:
  /// `plan` must outlive it; `slots`: how many the optimizer has.
  Copies(const BucketPlan& plan, index_t server, index_t slots);

  void take(index_t bucket, Store& store);
  void take_all(Store& store);
  /// Puts the bucket back into the store as it was at the last take() of it.
  void put_back(index_t bucket, Store& store) const;

  index_t count() const { return 1 + slots_; }
  /// [elements] of a bucket: its weights (0) or a slot (from 1 on).
  std::span<const float> of(index_t bucket, index_t which) const;

 private:
  std::span<float> place(index_t bucket, index_t which);

  const BucketPlan* plan_;
  index_t slots_;
  List<index_t> offsets_;  ///< where each bucket of the plan is in a copy; -1: another server's
  index_t element_count_ = 0;
  List<Buffer> copies_;
};

}  // namespace weir::ps
