#pragma once

#include <functional>

#include "common/net/mpi.hpp"
#include "worker/groups/tensor_group.hpp"

namespace weir::worker {

/// The shards of one stage of one replica, one rank each. All shards make every call, in the same
/// order and with the same number of values.
class MpiTensorGroup final : public TensorGroup {
 public:
  /// comm: the shards, by rank. `serve` is called while this shard waits, if others may need its
  /// server meanwhile; without `serve` the shards do not meet before a sum, which saves time.
  explicit MpiTensorGroup(Comm comm, std::function<bool()> serve = {})
      : comm_(std::move(comm)), serve_(std::move(serve)) {}
  index_t size() const override { return comm_.size(); }
  index_t index() const override { return comm_.rank(); }
  void sum(Vector values) override { met().sum(as<float>(values)); }
  void max(Vector values) override { met().max(as<float>(values)); }

 private:
  const Comm& met() const {
    if (serve_) comm_.meet(serve_);
    return comm_;
  }

  Comm comm_;
  std::function<bool()> serve_;
};

}  // namespace weir::worker
