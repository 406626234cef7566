#pragma once

#include <span>

#include "common/number/index.hpp"

namespace weir::worker {

/// The shards that together hold one stage of one replica. Layers see this and no MPI.
class TensorGroup {
 public:
  virtual ~TensorGroup() = default;
  virtual index_t size() const = 0;
  virtual index_t index() const = 0;
  /// values[i] = sum over the shards, in place; the same bits on every shard and in every run.
  virtual void sum(std::span<float> values) = 0;
  /// values[i] = maximum over the shards, in place.
  virtual void max(std::span<float> values) = 0;
};

/// A stage that is not cut: every sum is its own.
class SingleShard final : public TensorGroup {
 public:
  index_t size() const override { return 1; }
  index_t index() const override { return 0; }
  void sum(std::span<float>) override {}
  void max(std::span<float>) override {}
};

}  // namespace weir::worker
