#pragma once

#include <algorithm>
#include <span>

#include "common/number/index.hpp"

namespace weir::worker {

/// The ranks that hold the parts of the same sequences, a run of tokens each, in the order of the
/// parts. Every call is made by all of them, in the same order and with the same sizes. Layers see
/// this and no MPI.
class ContextGroup {
 public:
  virtual ~ContextGroup() = default;
  virtual index_t size() const = 0;
  virtual index_t index() const = 0;
  /// values[i] = sum over the contexts, in place; the same bits on every context and in every run.
  virtual void sum(std::span<float> values) = 0;
  /// all = the values of context 0, then those of context 1, and so on.
  virtual void gather(std::span<const float> values, std::span<float> all) = 0;
  /// Neighbours swap: `to_next` arrives as the next context's `from_previous`, `to_previous` as the
  /// previous one's `from_next`. Spans towards a neighbour that is not there are left alone.
  virtual void exchange(std::span<const float> to_previous, std::span<const float> to_next,
                        std::span<float> from_previous, std::span<float> from_next) = 0;
};

/// Sequences that are not cut.
class SingleContext final : public ContextGroup {
 public:
  index_t size() const override { return 1; }
  index_t index() const override { return 0; }
  void sum(std::span<float>) override {}
  void gather(std::span<const float> values, std::span<float> all) override {
    std::ranges::copy(values, all.begin());
  }
  void exchange(std::span<const float>, std::span<const float>, std::span<float>,
                std::span<float>) override {}
};

}  // namespace weir::worker
