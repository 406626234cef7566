#include "common/base/error.hpp"
#include "common/number/vector.hpp"
#include "ps/update/store.hpp"

/// How a store adds up the contributions to a bucket.
namespace weir::ps {

void Store::sum(index_t index, std::span<const index_t> replicas) {
  Entry& of = entry(index);
  WEIR_ASSERT(!of.summed && !replicas.empty());
  // The contributions of each group, one after the other for each contributor of a replica.
  const index_t a_replica = bucket(index).contributors.size();
  const index_t size = plan_->layout().group_size;
  WEIR_ASSERT(replicas.size() % size == 0);
  List<List<index_t>> groups;
  for (index_t first = 0; first < std::ssize(replicas); first += size) {
    for (index_t position = 0; position < a_replica; ++position) {
      List<index_t>& group = groups.emplace_back();
      for (index_t replica : replicas.subspan(first, size)) {
        WEIR_ASSERT(plan_->layout().group_of(replica) == plan_->layout().group_of(replicas[first]));
        const index_t each = replica * a_replica + position;
        if (of.kinds[each] == Kind::with_leader) continue;
        WEIR_ASSERT(of.arrived[each]);
        group.push_back(each);
      }
    }
  }
  of.sum = groups.front().front();
  if (plan_->wire().push.is_raw()) {
    sum_raw(of, groups);
  } else {
    sum_coded(of, groups);
  }
  of.summed = true;
  ++summed_count_;
}

/// The sum goes where the first contribution lies. Block by block, each group is added up where its
/// first contribution lies; then the groups are, in one pass, which also gives the squares.
void Store::sum_raw(const Entry& of, const List<List<index_t>>& groups) {
  index_t partial = of.first_partial;
  List<const float*> parts;
  for (const Block& block : blocks_of(bucket(of.bucket))) {
    const auto part = [&](index_t each) {
      return of.contributions[each].subspan(block.offset, block.count);
    };
    for (const List<index_t>& group : groups) {
      if (group.size() == 1) continue;
      parts.clear();
      for (index_t at = 1; at < group.size(); ++at) parts.push_back(part(group[at]).data());
      add_parts(part(group.front()), parts);
    }
    parts.clear();
    for (index_t at = 1; at < groups.size(); ++at) {
      parts.push_back(part(groups[at].front()).data());
    }
    partials_[partial++] = add_parts(part(of.sum), parts);
  }
}

/// A coded sum is decoded a whole bucket at a time: it fits into the second cache, and topk has no
/// order of blocks.
void Store::sum_coded(const Entry& of, const List<List<index_t>>& groups) {
  const Wire& push = plan_->wire().push;
  const std::span<float> total = part(gradients_, of);
  for (const List<index_t>& group : groups) {
    const std::span<const std::byte> frame = coded_sum(of, group);
    if (&group == &groups.front()) {
      decode(push, frame, total);
    } else {
      decode_add(push, frame, total);
    }
  }
  index_t partial = of.first_partial;
  for (const Block& block : blocks_of(bucket(of.bucket))) {
    partials_[partial++] = square_sum(total.subspan(block.offset, block.count));
  }
}

/// What a group pushed, or its sum as a worker would have encoded it.
std::span<const std::byte> Store::coded_sum(const Entry& of, const List<index_t>& group) {
  if (of.kinds[group.front()] == Kind::group_sum) {
    return contribution_frame(of.bucket, group.front());
  }
  List<const float*> others;
  for (index_t at = 1; at < group.size(); ++at) {
    others.push_back(of.contributions[group[at]].data());
  }
  const std::span<float> sum = of.contributions[group.front()];
  add_parts(sum, others);
  const Wire& push = plan_->wire().push;
  const std::span<std::byte> frame = coded_sum_.span().first(push.bytes(std::ssize(sum)));
  const index_t group_sum = plan_->group_sum_of(of.bucket, group.front());
  encode(push, sum, push.keeps_residual() ? residual(of.bucket, group_sum) : std::span<float>(),
         frame);
  return frame;
}

std::span<float> Store::residual(index_t index, index_t group_sum) {
  WEIR_ASSERT(keeps_residual(index, group_sum));
  return residuals_.span().subspan(entry(index).residual_offsets[group_sum],
                                   bucket(index).element_count);
}

}  // namespace weir::ps
