#pragma once

#include <span>
#include <vector>

#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"

namespace weir::worker {

/// What a worker's buckets are while they travel: its gradients and weights themselves where the
/// plan's wire is raw, else frames of their own, and the residuals of the wire that keeps them.
/// Buckets are named by their index in Holding::buckets.
class BucketFrames {
 public:
  /// weights, gradients: the holder's arenas. All must outlive this.
  BucketFrames(const BucketPlan& plan, const Holding& holding, Vector weights, Vector gradients);

  /// What is sent of a bucket's gradients once write() has been called.
  std::span<const std::byte> pushed(std::size_t held) const { return pushed_[held]; }
  /// Where its weights arrive; read() must be called then.
  std::span<std::byte> pulled(std::size_t held) const { return pulled_[held]; }

  /// What its gradients left unsent, where the push wire keeps it: zeros in the beginning.
  std::span<float> residual(std::size_t held) { return as<float>(part(residuals_.span(), held)); }

  /// The bucket's gradients are complete.
  void write(std::size_t held);
  /// The bucket's weights have arrived.
  void read(std::size_t held);

 private:
  Vector part(Vector arena, std::size_t held) const;

  const BucketPlan* plan_;
  const Holding* holding_;
  Vector weights_;
  Vector gradients_;
  Buffer residuals_;
  BufferOf<std::byte> memory_;
  std::vector<std::span<std::byte>> pushed_;  ///< one a held bucket; empty if it is not pushed
  std::vector<std::span<std::byte>> pulled_;
};

}  // namespace weir::worker
