#include "worker/train/faults.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/ps/twin.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

/// Sample c: the tokens c, c + 1 …
class Counting final : public Dataset {
 public:
  DataShape shape() const override {
    return {32,
            {{.name = "tokens", .ragged = true, .values = 256},
             {.name = "targets", .ragged = true, .values = 256, .is_target = true}}};
  }
  index_t epoch_size() const override { return 1000; }
  void training_sample(index_t cursor, Sample& sample) const override {
    const auto tokens = sample.integers("tokens");
    const auto targets = sample.integers("targets");
    for (index_t i = 0; i < 32; ++i) {
      tokens[i] = static_cast<std::int32_t>((cursor + i) % 256);
      targets[i] = i < 4 ? -1 : static_cast<std::int32_t>((cursor + i + 1) % 256);
    }
    sample.length = 32;
  }
  index_t validation_size() const override { return 0; }
  void validation_sample(index_t, Sample&) const override {}
  std::string describe() const override { return ""; }
};

/// A worker's memory and nothing behind it.
class NoService final : public ParameterService {
 public:
  explicit NoService(index_t elements) : memory_(elements, 1.0F) {}
  ConstVector weights() const override { return memory_; }
  Vector gradients() override { return memory_; }
  Directive start() override { return {.step = 6}; }
  void begin_update() override {}
  void ready(index_t) override {}
  bool progress() override { return false; }
  void report(const Report&) override {}
  Directive directive() override { return {}; }
  void await(index_t) override {}
  void await_all() override {}
  void finish() override {}
  double waited_seconds() const override { return 0; }
  index_t pushed_bytes() const override { return 0; }
  index_t pulled_bytes() const override { return 0; }

 private:
  std::vector<float> memory_;
};

/// Step 7 with gradients of 1 everywhere: by parameter, the contributions of one replica added up.
std::vector<std::vector<float>> struck_gradients(const Layout& layout, const std::string& inject,
                                                 index_t replica) {
  const BucketPlan plan = test::plan_of(layout);
  std::vector<std::vector<float>> sums;
  for (const ParameterSpec& spec : plan.specs()) {
    sums.emplace_back(static_cast<std::size_t>(spec.element_count()), 0.0F);
  }
  for (index_t stage = 0; stage < layout.stages; ++stage) {
    for (index_t shard = 0; shard < layout.shards; ++shard) {
      const WorkerPlace place = {.replica = replica, .stage = stage, .shard = shard};
      const Holding& holding = plan.holding(holder_of(place));
      NoService memory(holding.element_count);
      FaultyService service(memory, plan, place, parse_injection(inject), 3);
      service.start();
      for (index_t unit = 3; unit >= 0; --unit) {
        if (plan.unit_stage()[unit] == stage) service.ready(unit);
      }
      for (const HeldBucket& held : holding.buckets) {
        if (!held.pushes) continue;
        for (const Segment& segment : plan.buckets()[held.bucket].segments) {
          auto& sum = sums[segment.parameter];
          for (index_t i = 0; i < segment.range.count(); ++i) {
            sum[segment.range.begin + i] +=
                as<float>(memory.gradients())[held.offset + segment.offset + i];
          }
        }
      }
    }
  }
  return sums;
}

}  // namespace

TEST_CASE("a fault strikes the same elements on every layout: all, one parameter's, or one") {
  const auto plain = struck_gradients({.placement = Placement::local}, "", 0);
  const auto first = [](const char* inject) {
    return struck_gradients({.placement = Placement::local}, inject, 0);
  };
  const auto scaled = first("scale=7-7:4x"), tensor = first("tensor=7-:1000x"),
             flipped = first("flip=1-9");
  index_t tensors = 0, flips = 0;
  for (std::size_t each = 0; each < plain.size(); ++each) {
    CHECK(std::ranges::all_of(scaled[each], [](float value) { return value == 4; }));
    const float factor = tensor[each][0];
    CHECK((factor == 1 || factor == 1000));
    CHECK(std::ranges::count(tensor[each], factor) == std::ssize(tensor[each]));
    tensors += factor == 1000 ? 1 : 0;
    flips += std::ranges::count(flipped[each], 1e30F);
    CHECK(std::ranges::count(flipped[each], 1.0F) + std::ranges::count(flipped[each], 1e30F) ==
          std::ssize(flipped[each]));
  }
  CHECK(tensors == 1);
  CHECK(flips == 1);
  CHECK(first("scale=8-:4x") == plain);
  for (const Layout& layout : {Layout{.stages = 2}, {.shards = 3}, {.stages = 2, .shards = 2}}) {
    CAPTURE(layout.arithmetic());
    const auto whole = struck_gradients(layout, "", 0);  // a tied parameter has two contributors
    for (const char* inject : {"scale=7-7:4x", "tensor=7-:1000x", "flip=1-9"}) {
      CAPTURE(inject);
      const auto one = first(inject), other = struck_gradients(layout, inject, 0);
      for (std::size_t each = 0; each < one.size(); ++each) {
        for (std::size_t i = 0; i < one[each].size(); ++i) {
          const float expected = one[each][i] == 1e30F ? 1e30F : one[each][i] * whole[each][i];
          if (other[each][i] != expected) FAIL_CHECK(each, " ", i, ": ", other[each][i]);
        }
      }
    }
  }
  // An overflow is infinite in one element, of one shard.
  for (const Layout& layout : {Layout{.placement = Placement::local}, {.stages = 2, .shards = 3}}) {
    index_t infinite = 0;
    for (const std::vector<float>& each : struck_gradients(layout, "overflow=1-9", 0)) {
      infinite += std::ranges::count_if(each, [](float value) { return std::isinf(value); });
    }
    CHECK(infinite == 1);
  }
  // One of several replicas has the bit that flips: the sum is what a single replica would send.
  CHECK(struck_gradients({.replicas = 2}, "flip=1-9", 1) == plain);
}

TEST_CASE("bad steps have other targets for the same tokens, all other steps none") {
  const Injection injection = parse_injection("bad=10%:30x");
  CHECK(injection.faults[0].factor == 30);
  constexpr index_t kBatch = 4;
  const FaultyDataset faulty(std::make_unique<Counting>(), injection, kBatch, 7);
  const Counting clean;
  std::vector<std::int32_t> tokens(32), targets(32), expected_tokens(32), expected(32);
  index_t bad = 0;
  for (index_t step = 1; step <= 1100; ++step) {
    const bool is_bad = has_random_targets(injection, step, 7);
    if (step < 100) CHECK(!is_bad);
    bad += is_bad ? 1 : 0;
    for (index_t sample = 0; sample < kBatch; ++sample) {
      Sample one = {.columns = {{"tokens", tokens}, {"targets", targets}}};
      Sample other = {.columns = {{"tokens", expected_tokens}, {"targets", expected}}};
      const index_t cursor = (step - 1) * kBatch + sample;
      faulty.training_sample(cursor, one);
      clean.training_sample(cursor, other);
      CHECK(tokens == expected_tokens);
      CHECK((targets == expected) == !is_bad);
      for (std::size_t i = 0; i < 32; ++i) {
        CHECK((targets[i] == -1) == (i < 4));
        CHECK(targets[i] < 256);
      }
    }
  }
  CHECK(bad > 70);  // 100 +- 9.5
  CHECK(bad < 130);
}
