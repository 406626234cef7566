#pragma once

#include "common/number/tensor.hpp"

namespace weir::worker {

/// The shards that together hold one stage of one replica. Layers see this and no MPI.
class TensorGroup {
 public:
  virtual ~TensorGroup() = default;
  virtual index_t size() const = 0;
  virtual index_t index() const = 0;
  /// values[i] = sum over the shards, in place; the same bits on every shard and in every run.
  virtual void sum(Vector values) = 0;
  /// values[i] = maximum over the shards, in place.
  virtual void max(Vector values) = 0;
};

/// The group of one rank, whose stage is not cut: every sum is its own value.
class SingleShard final : public TensorGroup {
 public:
  index_t size() const override { return 1; }
  index_t index() const override { return 0; }
  void sum(Vector) override {}
  void max(Vector) override {}
};

}  // namespace weir::worker
