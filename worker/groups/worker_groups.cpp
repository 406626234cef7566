#include "worker/groups/worker_groups.hpp"

namespace weir::worker {

WorkerGroups::WorkerGroups(const Layout& layout, const WorkerPlace& place, const Comm& workers,
                           const GroupShape& shape, std::function<bool()> progress,
                           std::function<bool()> serve)
    : workers_(&workers), progress_(std::move(progress)) {
  // A group's color is the rank of its first member.
  const auto group_of = [&](const WorkerPlace& first, index_t index) {
    return workers.split(static_cast<int>(layout.rank_of(first)), static_cast<int>(index));
  };
  const auto [replica, stage, context, shard] = place;
  if (layout.shards > 1) {
    // A shard that this one waits for may need its frame to get there.
    const auto move_on = [this] {
      if (link_) link_->progress();
      return progress_();
    };
    shards_.emplace(group_of({replica, stage, context, 0}, shard),
                    ShardWays{shape.shard_bytes, shape.may_share, move_on, serve});
  }
  if (layout.contexts > 1) {
    contexts_.emplace(group_of({replica, stage, 0, shard}, context), serve);
  }
  if (layout.stages > 1) {
    link_.emplace(group_of({replica, 0, context, shard}, stage), shape.chunks, shape.slots,
                  progress_);
  }
}

void WorkerGroups::sum_over_workers(std::span<double> values) const {
  if (workers_ != nullptr && *workers_) workers_->sum(values, progress_);
}

}  // namespace weir::worker
