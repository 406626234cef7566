#include "ps/update/traffic.hpp"

#include "common/base/error.hpp"

namespace weir::ps {

Traffic::Traffic(const BucketPlan& plan, index_t server)
    : plan_(&plan), unsent_(plan.buckets().size()) {
  for (index_t bucket : plan.buckets_of(server)) {
    pushes_ += std::ssize(plan.buckets()[static_cast<std::size_t>(bucket)].contributors);
    leaves(bucket, plan.layout().replicas);
  }
  missing_.assign(static_cast<std::size_t>(plan.layout().replicas), pushes_);
}

std::optional<index_t> Traffic::arrived(index_t bucket, index_t contributor) {
  const index_t a_replica =
      std::ssize(plan_->buckets()[static_cast<std::size_t>(bucket)].contributors);
  const index_t replica = contributor / a_replica;
  if (--missing_[static_cast<std::size_t>(replica)] > 0) return std::nullopt;
  return replica;
}

void Traffic::expect(const std::vector<index_t>& replicas) {
  for (index_t replica : replicas) missing_[static_cast<std::size_t>(replica)] = pushes_;
}

void Traffic::leaves(index_t bucket, index_t replicas) {
  const auto at = static_cast<std::size_t>(bucket);
  unsent_[at] += replicas * std::ssize(plan_->buckets()[at].readers);
}

void Traffic::sent(index_t bucket) {
  index_t& unsent = unsent_[static_cast<std::size_t>(bucket)];
  --unsent;
  WEIR_ASSERT(unsent >= 0);
}

}  // namespace weir::ps
