#pragma once

#include "common/net/mpi.hpp"
#include "worker/parallel/tensor_group.hpp"

namespace weir::worker {

/// The shards of one stage of one replica, a rank each. Every call is made by all shards, in the
/// same order and with the same number of values.
class MpiTensorGroup final : public TensorGroup {
 public:
  /// comm: the shards, by rank.
  explicit MpiTensorGroup(Comm comm) : comm_(std::move(comm)) {}
  index_t size() const override { return comm_.size(); }
  index_t index() const override { return comm_.rank(); }
  void sum(std::span<float> values) override { comm_.sum(values); }
  void max(std::span<float> values) override { comm_.max(values); }

 private:
  Comm comm_;
};

}  // namespace weir::worker
