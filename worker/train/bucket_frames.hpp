#pragma once

#include <span>
#include <vector>

#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"

namespace weir::worker {

/// A worker's buckets as they travel: the gradients and weights themselves if the plan's wire is
/// raw, else frames of their own; and the residuals, if the wire keeps some. Buckets are named by
/// their index in Holding::buckets.
class BucketFrames {
 public:
  /// wire: the worker's own (DataPlane::wire_of). weights, gradients: the holder's arenas. All but
  /// the wire must outlive this.
  BucketFrames(const BucketPlan& plan, const WireConfig& wire, const Holding& holding,
               Vector weights, Vector gradients);

  /// The bytes of a bucket's gradients to send, once write() has been called.
  std::span<const std::byte> pushed(std::size_t held) const { return pushed_[held]; }
  /// Where a bucket's weights arrive; call read() then.
  std::span<std::byte> pulled(std::size_t held) const { return pulled_[held]; }

  /// What a bucket's gradients left unsent, if the push wire keeps it; zeros in the beginning.
  std::span<float> residual(std::size_t held) { return as<float>(part(residuals_.span(), held)); }

  /// The bucket's gradients are complete.
  void write(std::size_t held);
  /// The bucket's weights have arrived, or how far they have moved since the last time.
  void read(std::size_t held);

 private:
  Vector part(Vector arena, std::size_t held) const;

  const BucketPlan* plan_;
  WireConfig wire_;
  const Holding* holding_;
  Vector weights_;
  Vector gradients_;
  Buffer residuals_;
  BufferOf<std::byte> memory_;
  std::vector<std::span<std::byte>> pushed_;  ///< one a held bucket; empty if it is not pushed
  std::vector<std::span<std::byte>> pulled_;
};

}  // namespace weir::worker
