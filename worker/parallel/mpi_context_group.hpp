#pragma once

#include <functional>

#include "common/net/mpi.hpp"
#include "worker/parallel/context_group.hpp"

namespace weir::worker {

/// The contexts of one shard of one stage of one replica, a rank each.
class MpiContextGroup final : public ContextGroup {
 public:
  /// comm: the contexts, by rank. `serve` as in MpiTensorGroup.
  explicit MpiContextGroup(Comm comm, std::function<bool()> serve = {})
      : comm_(std::move(comm)), serve_(std::move(serve)) {}
  index_t size() const override { return comm_.size(); }
  index_t index() const override { return comm_.rank(); }
  void sum(std::span<float> values) override { met().sum(values); }
  void gather(std::span<const float> values, std::span<float> all) override {
    met().gather(values, all);
  }
  void exchange(std::span<const float> to_previous, std::span<const float> to_next,
                std::span<float> from_previous, std::span<float> from_next) override {
    met().exchange(to_previous, to_next, from_previous, from_next);
  }

 private:
  const Comm& met() const {
    if (serve_) comm_.meet(serve_);
    return comm_;
  }

  Comm comm_;
  std::function<bool()> serve_;
};

}  // namespace weir::worker
