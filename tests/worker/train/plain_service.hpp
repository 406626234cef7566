#pragma once

#include "common/job/parameter_service.hpp"
#include "common/number/memory.hpp"

namespace weir::test {

/// One holder's parameters in this process and plain gradient descent on the mean gradient: the
/// least that can stand for the servers.
class PlainService final : public ParameterService {
 public:
  PlainService(const BucketPlan& plan, std::uint64_t seed, double rate, index_t batch,
               index_t steps)
      : rate_(rate), batch_(batch), steps_(steps) {
    const Holding& holding = plan.holding({});
    weights_ = Buffer(holding.element_count);
    gradients_ = Buffer(holding.element_count);
    for (const HeldSlice& slice : holding.slices) {
      initial_weights(plan.specs()[slice.parameter], seed, slice.range,
                      weights_.span().subspan(slice.offset, slice.range.count()));
    }
  }
  ConstVector weights() const override { return weights_.span(); }
  Vector gradients() override { return gradients_.span(); }
  Directive start() override {
    Directive directive;
    directive.replicas.shares = {batch_ / micro_batch};
    directive.order.loss_scale = loss_scale;
    return directive;
  }
  void begin_update() override {
    for (float& value : gradients_.span()) value = 0;
  }
  void ready(index_t unit) override { ready_units.push_back(unit); }
  bool progress() override { return false; }
  void report(const Report& report) override {
    report_ = report;
    reported_scale = report.loss_scale;
  }
  Directive directive() override {
    Directive directive;
    directive.update = directive.step = ++step_;
    directive.cursor = step_ * batch_;
    directive.replicas.shares = {batch_ / micro_batch};
    directive.observed.loss = report_.loss_sum / static_cast<double>(report_.count);
    directive.observed.count = report_.count;
    directive.order.stop = step_ == steps_;
    directive.order.loss_scale = loss_scale;
    const auto factor = static_cast<float>(rate_ / static_cast<double>(report_.count));
    for (index_t at = 0; at < weights_.size(); ++at) weights_[at] -= factor * gradients_[at];
    losses.push_back(directive.observed.loss);
    return directive;
  }
  void await(index_t unit) override { awaited_units.push_back(unit); }
  void await_all() override {}
  void finish() override {}
  double waited_seconds() const override { return 0; }
  index_t pushed_bytes() const override { return 0; }
  index_t pulled_bytes() const override { return 0; }

  index_t micro_batch = 1;  ///< samples
  double loss_scale = 1;    ///< what it asks for
  double reported_scale = 0;
  std::vector<index_t> awaited_units;
  std::vector<index_t> ready_units;
  std::vector<double> losses;

 private:
  double rate_;
  index_t batch_;
  index_t steps_;
  index_t step_ = 0;
  Report report_;
  Buffer weights_;
  Buffer gradients_;
};

}  // namespace weir::test
