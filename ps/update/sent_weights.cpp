#include "ps/update/sent_weights.hpp"

#include <algorithm>
#include <functional>

#include "common/base/error.hpp"

namespace weir::ps {

SentWeights::SentWeights(const BucketPlan& plan, index_t server)
    : plan_(&plan), offsets_(plan.buckets().size(), -1) {
  if (!kept()) return;
  index_t elements = 0, longest = 0;
  for (const index_t bucket : plan.buckets_of(server)) {
    const index_t count = plan.buckets()[bucket].element_count;
    offsets_[bucket] = elements;
    elements += count;
    longest = std::max(longest, count);
  }
  sent_ = Buffer(elements);
  difference_ = Buffer(longest);
  unsent_ = Buffer(longest);
}

std::span<float> SentWeights::of(index_t bucket) {
  WEIR_ASSERT(kept() && offsets_[bucket] >= 0);
  return sent_.span().subspan(offsets_[bucket], plan_->buckets()[bucket].element_count);
}

void SentWeights::encode(index_t bucket, std::span<const float> weights,
                         std::span<std::byte> frame) {
  const std::span<float> sent = of(bucket);
  WEIR_ASSERT(weights.size() == sent.size());
  const std::span<float> difference = difference_.span().first(sent.size());
  std::ranges::transform(weights, sent, difference.begin(), std::minus<>());
  // The next difference brings what is left over, so the wire keeps none of its own.
  const std::span<float> unsent = unsent_.span().first(sent.size());
  std::ranges::fill(unsent, 0.0F);
  const Wire& pull = plan_->wire().pull;
  weir::encode(pull, difference, unsent, frame);
  decode_add(pull, frame, sent);
}

}  // namespace weir::ps
