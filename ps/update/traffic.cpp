#include "ps/update/traffic.hpp"

#include "common/base/error.hpp"

namespace weir::ps {

Traffic::Traffic(const BucketPlan& plan, index_t server)
    : plan_(&plan), unsent_(plan.buckets().size()) {
  for (index_t bucket : plan.buckets_of(server)) {
    pushes_ += plan.buckets()[bucket].contributors.size();
    leaves(bucket, plan.layout().replicas);
  }
  missing_.assign(plan.layout().replicas, pushes_);
}

std::optional<index_t> Traffic::arrived(index_t bucket, index_t contributor) {
  const index_t a_replica = plan_->buckets()[bucket].contributors.size();
  const index_t replica = contributor / a_replica;
  if (--missing_[replica] > 0) return std::nullopt;
  return replica;
}

void Traffic::expect(const List<index_t>& replicas) {
  for (index_t replica : replicas) missing_[replica] = pushes_;
}

void Traffic::leaves(index_t bucket, index_t replicas) {
  unsent_[bucket] += replicas * plan_->buckets()[bucket].readers.size();
}

void Traffic::sent(index_t bucket) {
  index_t& unsent = unsent_[bucket];
  --unsent;
  WEIR_ASSERT(unsent >= 0);
}

}  // namespace weir::ps
