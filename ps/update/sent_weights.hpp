#pragma once

#include <span>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"

namespace weir::ps {

/// The weights of a server's buckets as their readers have them, where the pull wire sends
/// differences (Wire::keeps_residual). All readers have the same, because each takes every frame.
///
///   frame = encode(weights - sent);   sent += decode(frame), here and at every reader
///
/// So what a frame could not say is part of the next difference: nothing is lost, and nothing adds
/// up. Training begins with what sent() holds then, which readers get as it is.
class SentWeights {
 public:
  /// Zeros; none if the plan's pull wire sends the weights themselves. `plan` must outlive it.
  SentWeights(const BucketPlan& plan, index_t server);

  bool kept() const { return plan_->wire().pull.keeps_residual(); }
  std::span<float> of(index_t bucket);
  /// Writes what the readers lack into a frame of the pull wire, which each of them must then take
  /// once.
  void encode(index_t bucket, std::span<const float> weights, std::span<std::byte> frame);

 private:
  const BucketPlan* plan_;
  List<index_t> offsets_;  ///< one a bucket of the plan; -1: another server's
  Buffer sent_;
  Buffer difference_;  ///< room for one bucket, as the next
  Buffer unsent_;
};

}  // namespace weir::ps
