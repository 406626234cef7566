#include "worker/train/bucket_frames.hpp"

#include "common/base/error.hpp"

namespace weir::worker {

BucketFrames::BucketFrames(const BucketPlan& plan, const WireConfig& wire, const Holding& holding,
                           Vector weights, Vector gradients)
    : plan_(&plan), wire_(wire), holding_(&holding), weights_(weights), gradients_(gradients) {
  const auto& [push, pull] = wire_;
  if (push.keeps_residual()) residuals_ = Buffer(holding.element_count);
  const auto count_of = [&](const HeldBucket& held) {
    return plan.buckets()[held.bucket].element_count;
  };
  index_t bytes = 0;
  for (const HeldBucket& held : holding.buckets) {
    if (held.pushes && !push.is_raw()) bytes += round_up(push.bytes(count_of(held)), kPageBytes);
    if (!pull.is_raw()) bytes += round_up(pull.bytes(count_of(held)), kPageBytes);
  }
  memory_ = BufferOf<std::byte>(bytes);
  std::span<std::byte> rest = memory_.span();
  const auto frame = [&](const Wire& wire, std::size_t held, Vector arena) {
    if (wire.is_raw()) return part(arena, held).bytes();
    const index_t size = wire.bytes(count_of(holding.buckets[held]));
    const auto taken = rest.first(size);
    rest = rest.subspan(round_up(size, kPageBytes));
    return taken;
  };
  for (index_t held = 0; held < holding.buckets.size(); ++held) {
    const bool pushes = holding.buckets[held].pushes;
    pushed_.push_back(pushes ? frame(push, held, gradients) : std::span<std::byte>());
    pulled_.push_back(frame(pull, held, weights));
  }
}

Vector BucketFrames::part(Vector arena, std::size_t held) const {
  return plan_->part(arena, holding_->buckets[held]);
}

void BucketFrames::write(std::size_t held) {
  const Wire& push = wire_.push;
  if (push.is_raw()) return;
  encode(push, as<float>(part(gradients_, held)),
         push.keeps_residual() ? residual(held) : std::span<float>(), pushed_[held]);
}

void BucketFrames::read(std::size_t held) {
  const Wire& pull = wire_.pull;
  if (pull.is_raw()) return;
  const std::span<float> weights = as<float>(part(weights_, held));
  if (pull.keeps_residual()) {
    decode_add(pull, pulled_[held], weights);
  } else {
    decode(pull, pulled_[held], weights);
  }
}

}  // namespace weir::worker
