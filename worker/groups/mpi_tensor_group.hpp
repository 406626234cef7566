#pragma once

#include <functional>
#include <memory>

#include "common/net/part_exchange.hpp"
#include "worker/groups/group_comm.hpp"
#include "worker/groups/tensor_group.hpp"

namespace weir::worker {

/// How the shards of a stage reach each other.
struct ShardWays {
  index_t bytes = 0;      ///< the most that a sum or a gathering moves
  bool may_share = true;  ///< through memory, if they are on one host
  /// Called while this rank waits for the others; moves other traffic on.
  std::function<bool()> progress = {};
  std::function<bool()> serve = {};  ///< see GroupComm
};

/// The shards of one stage of one replica, one rank each. Shard t adds up part t of the values, in
/// the order of a ring: t + 1, t + 2, …, t. So sums have the same bits through memory and by
/// messages.
class MpiTensorGroup final : public TensorGroup {
 public:
  /// comm: the shards, by rank. Collective.
  MpiTensorGroup(Comm comm, ShardWays ways);
  index_t size() const override { return comm_.size(); }
  index_t index() const override { return comm_.rank(); }
  void sum(Vector values) override;
  void max(Vector values) override { comm_.met().max(as<float>(values)); }
  void start_row_sum(Matrix values) override;
  void finish_row_sum(Matrix values) override;
  void gather_rows(Matrix values) override;
  /// Moves what a started sum has under way; never blocks.
  void progress() { exchange_->progress(); }

 private:
  GroupComm comm_;
  std::unique_ptr<PartExchange> exchange_;
};

}  // namespace weir::worker
