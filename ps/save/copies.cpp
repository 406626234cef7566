#include "ps/save/copies.hpp"

#include <algorithm>
#include <utility>

#include "common/base/error.hpp"

namespace weir::ps {

Copies::Copies(const BucketPlan& plan, index_t server, index_t slots, bool with_sent)
    : plan_(&plan), slots_(slots), with_sent_(with_sent), offsets_(plan.buckets().size(), -1) {
  for (index_t bucket : plan.buckets_of(server)) {
    offsets_[bucket] = element_count_;
    element_count_ += plan.buckets()[bucket].element_count;
  }
}

void Copies::take(index_t bucket, Store& store) {
  while (copies_.size() < count()) copies_.emplace_back(element_count_);
  std::ranges::copy(store.weights(bucket), place(bucket, 0).begin());
  for (index_t slot = 0; slot < slots_; ++slot) {
    std::ranges::copy(store.slot(bucket, slot), place(bucket, slot + 1).begin());
  }
  if (with_sent_) std::ranges::copy(store.sent_weights(bucket), place(bucket, slots_ + 1).begin());
}

void Copies::take_all(Store& store) {
  for (index_t bucket : store.buckets()) take(bucket, store);
}

void Copies::put_back(index_t bucket, Store& store) const {
  WEIR_ASSERT(copies_.size() == count());
  std::ranges::copy(of(bucket, 0), store.mutable_weights(bucket).begin());
  for (index_t slot = 0; slot < slots_; ++slot) {
    std::ranges::copy(of(bucket, slot + 1), store.slot(bucket, slot).begin());
  }
  store.encode_weights(bucket);
}

std::span<const float> Copies::of(index_t bucket, index_t which) const {
  WEIR_ASSERT(offsets_[bucket] >= 0);  // a bucket of another server
  return copies_[which].span().subspan(offsets_[bucket], plan_->buckets()[bucket].element_count);
}

std::span<float> Copies::place(index_t bucket, index_t which) {
  const std::span<const float> found = of(bucket, which);
  return {const_cast<float*>(found.data()), found.size()};
}

}  // namespace weir::ps
