#pragma once

#include <algorithm>

#include "common/job/parameter_service.hpp"
#include "common/number/memory.hpp"
#include "common/wire/narrow.hpp"

namespace weir::benchmark {

/// Weights as at the start of a training; gradients that nobody fetches.
class NoServers final : public ParameterService {
 public:
  NoServers(const BucketPlan& plan, const Holder& holder, std::uint64_t seed)
      : dtype_(plan.weight_dtype()),
        weights_(plan.holding(holder).element_count, bytes_of(dtype_)),
        gradients_(plan.holding(holder).element_count) {
    for (const HeldSlice& slice : plan.holding(holder).slices) {
      Buffer values(slice.range.count());
      initial_weights(plan.specs()[slice.parameter], seed, slice.range, values.span());
      round_to(values.span(), weights_.elements(dtype_).part(slice.offset, values.size()));
    }
  }

  ConstVector weights() const override { return weights_.elements(dtype_); }
  Vector gradients() override { return gradients_.span(); }
  Directive start() override { return {}; }
  void begin_update() override { std::ranges::fill(gradients_.span(), 0.0F); }
  void ready(index_t) override {}
  bool progress() override { return false; }
  void report(const weir::Report&) override {}
  Directive directive() override { return {}; }
  void await(index_t) override {}
  void await_all() override {}
  void finish() override {}
  double waited_seconds() const override { return 0; }
  index_t pushed_bytes() const override { return 0; }
  index_t pulled_bytes() const override { return 0; }

 private:
  Dtype dtype_;
  Memory weights_;
  Buffer gradients_;
};

}  // namespace weir::benchmark
