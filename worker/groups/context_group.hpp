#pragma once

#include <algorithm>

#include "common/number/tensor.hpp"

namespace weir::worker {

/// The ranks that hold the parts of the same sequences: each a run of tokens, in the order of the
/// parts. All of them make every call, in the same order and with the same sizes. Layers see this
/// and no MPI.
class ContextGroup {
 public:
  virtual ~ContextGroup() = default;
  virtual index_t size() const = 0;
  virtual index_t index() const = 0;
  /// values[i] = sum over the contexts, in place; the same bits on every context and in every run.
  virtual void sum(Vector values) = 0;
  /// all = the values of context 0, then those of context 1, and so on.
  virtual void gather(ConstVector values, Vector all) = 0;
  /// Neighbours swap: `to_next` arrives as the next context's `from_previous`, `to_previous` as the
  /// previous one's `from_next`. Spans towards a neighbour that is not there are left alone.
  virtual void exchange(ConstVector to_previous, ConstVector to_next, Vector from_previous,
                        Vector from_next) = 0;
};

/// The group of one rank, whose sequences are not cut.
class SingleContext final : public ContextGroup {
 public:
  index_t size() const override { return 1; }
  index_t index() const override { return 0; }
  void sum(Vector) override {}
  void gather(ConstVector values, Vector all) override {
    if (values.kind() == MemoryKind::none) return;
    std::ranges::copy(values.bytes(), all.bytes().begin());
  }
  void exchange(ConstVector, ConstVector, Vector, Vector) override {}
};

}  // namespace weir::worker
