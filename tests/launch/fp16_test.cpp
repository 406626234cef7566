#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/launch/small_training.hpp"

namespace weir::test::fp16_test {
// Real gradients in fp16, and what keeps them in its range.

using worker::Task;

namespace {

constexpr index_t kSteps = 40;

Record train(Precision precision, const ps::LossScaleConfig& scale) {
  ps::ServerConfig config = server_config(kSteps);
  config.training = {.steps = kSteps, .batch = 4, .micro_batch = 2, .precision = precision};
  config.loss_scale = scale;
  config.optimizer.weight_decay = 0;
  config.clip = {.policy = ps::ClipPolicy::decay};
  config.rate = {.schedule = ps::RateSchedule::constant, .peak = 0.02};
  worker::CpuKernels kernels;
  return train_letters(letters_model(Task::language, precision), config, kernels,
                       [](const Record&) {});
}

index_t skips_of(const Record& record) {
  return std::ranges::count_if(
      record.directives, [](const Directive& each) { return each.rule.skip != SkipReason::none; });
}

double last_loss(const Record& record) { return record.directives.back().observed.loss; }

}  // namespace

TEST_CASE(
    "fp16 with the servers' scale learns as fp32 does, also from a scale that is far too high") {
  const QuietLog quiet;
  const Record full = train(Precision::fp32, {});
  REQUIRE(last_loss(full) < 0.8 * full.directives.front().observed.loss);
  const Record half = train(Precision::fp16, {});
  CHECK(skips_of(half) <= 5);
  CHECK(last_loss(half) == doctest::Approx(last_loss(full)).epsilon(0.05));
  const Record high = train(Precision::fp16, {.initial = 0x1p24});
  CHECK(skips_of(high) > 0);
  CHECK(skips_of(high) <= 10);
  CHECK(high.directives[0].rule.skip == SkipReason::overflow);
  CHECK(high.weights[1] == high.weights[0]);
  CHECK(last_loss(high) < 0.85 * full.directives.front().observed.loss);
}

TEST_CASE("the article's clip, decay, is no help to fp16 without loss scaling: its failure") {
  // Clipping comes after backward. By then a gradient beyond 65504 is infinite, whatever the
  // threshold, and one below 6e-8 is zero. A scale that cannot move stands for none.
  const QuietLog quiet;
  const Record overflowing = train(Precision::fp16, {.initial = 0x1p32, .floor = 0x1p32});
  CHECK(skips_of(overflowing) == kSteps);  // every step
  for (const Directive& each : overflowing.directives) {
    CHECK(each.rule.skip == SkipReason::not_finite);
    CHECK(each.observed.threshold == 1);  // it has never been asked
  }
  CHECK(overflowing.weights.back() == overflowing.weights.front());

  const Record vanishing = train(Precision::fp16, {.initial = 0x1p-24, .floor = 0x1p-24});
  CHECK(skips_of(vanishing) == 0);  // all looks well …
  for (const Directive& each : vanishing.directives) {
    CHECK(each.observed.norm == 0);
    CHECK(each.observed.threshold == 1);
  }
  CHECK(vanishing.weights.back() == vanishing.weights.front());  // … and nothing is learnt
}

}  // namespace weir::test::fp16_test
