#pragma once

#include <functional>

#include "worker/groups/context_group.hpp"
#include "worker/groups/group_comm.hpp"
#include "worker/groups/sum_in_f32.hpp"

namespace weir::worker {

/// The contexts of one shard of one stage of one replica, one rank each.
class MpiContextGroup final : public ContextGroup {
 public:
  /// comm: the contexts, by rank. `serve`: see GroupComm.
  explicit MpiContextGroup(Comm comm, std::function<bool()> serve = {})
      : comm_(std::move(comm), std::move(serve)) {}
  index_t size() const override { return comm_.size(); }
  index_t index() const override { return comm_.rank(); }
  void sum(Vector values) override { sum_in_f32(comm_.met(), values, staging_); }
  void gather(ConstVector values, Vector all) override { comm_.met().gather(values, all); }
  void exchange(ConstVector to_previous, ConstVector to_next, Vector from_previous,
                Vector from_next) override {
    comm_.met().exchange(to_previous, to_next, from_previous, from_next);
  }

 private:
  GroupComm comm_;
  Buffer staging_;
};

}  // namespace weir::worker
