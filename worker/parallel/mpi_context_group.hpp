#pragma once

#include "common/net/mpi.hpp"
#include "worker/parallel/context_group.hpp"

namespace weir::worker {

/// The contexts of one shard of one stage of one replica, a rank each.
class MpiContextGroup final : public ContextGroup {
 public:
  /// comm: the contexts, by rank.
  explicit MpiContextGroup(Comm comm) : comm_(std::move(comm)) {}
  index_t size() const override { return comm_.size(); }
  index_t index() const override { return comm_.rank(); }
  void sum(std::span<float> values) override { comm_.sum(values); }
  void gather(std::span<const float> values, std::span<float> all) override {
    comm_.gather(values, all);
  }
  void exchange(std::span<const float> to_previous, std::span<const float> to_next,
                std::span<float> from_previous, std::span<float> from_next) override {
    comm_.exchange(to_previous, to_next, from_previous, from_next);
  }

 private:
  Comm comm_;
};

}  // namespace weir::worker
