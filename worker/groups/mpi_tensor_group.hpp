#pragma once

#include <functional>

#include "worker/groups/group_comm.hpp"
#include "worker/groups/sum_in_f32.hpp"
#include "worker/groups/tensor_group.hpp"

namespace weir::worker {

/// The shards of one stage of one replica, one rank each. All shards make every call, in the same
/// order and with the same number of values.
class MpiTensorGroup final : public TensorGroup {
 public:
  /// comm: the shards, by rank. `serve`: see GroupComm.
  explicit MpiTensorGroup(Comm comm, std::function<bool()> serve = {})
      : comm_(std::move(comm), std::move(serve)) {}
  index_t size() const override { return comm_.size(); }
  index_t index() const override { return comm_.rank(); }
  void sum(Vector values) override { sum_in_f32(comm_.met(), values, staging_); }
  void max(Vector values) override { comm_.met().max(as<float>(values)); }

 private:
  GroupComm comm_;
  Buffer staging_;
};

}  // namespace weir::worker
