#include "tests/launch/spoilt_kernels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "ps/local_service.hpp"
#include "tests/ps/simulated_job.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/train/trainer.hpp"

// NaN and infinity in every place where an activation or a gradient passes: after each call of a
// kernel in a step, one after the other. Worker and server are the real ones.

using namespace weir;
using namespace weir::worker;

namespace {

constexpr index_t kLength = 16, kBatch = 2;

class Letters final : public Dataset {
 public:
  explicit Letters(Task task) : task_(task) {}
  DataShape shape() const override {
    const ColumnShape tokens = {.name = "tokens", .ragged = true, .values = 16};
    if (task_ == Task::language) {
      return {kLength,
              {tokens, {.name = "targets", .ragged = true, .values = 16, .is_target = true}}};
    }
    return {kLength, {tokens, {.name = "labels", .values = 3, .is_target = true}}};
  }
  index_t epoch_size() const override { return 1000; }
  void training_sample(index_t cursor, Sample& sample) const override {
    for (index_t at = 0; at < kLength; ++at) {
      const auto i = static_cast<std::size_t>(at);
      sample.integers("tokens")[i] = static_cast<std::int32_t>((cursor + at) % 16);
      if (task_ == Task::language) {
        sample.integers("targets")[i] = static_cast<std::int32_t>((cursor + at + 1) % 16);
      }
    }
    if (task_ == Task::classifier) {
      sample.integers("labels")[0] = static_cast<std::int32_t>(cursor % 3);
    }
    sample.length = kLength;
  }
  index_t validation_size() const override { return 0; }
  void validation_sample(index_t, Sample&) const override {}
  std::string describe() const override { return "letters"; }

 private:
  Task task_;
};

struct WeightsAfter final : Observer {
  explicit WeightsAfter(const ParameterService& service) : service_(service) {}
  void start(const Directive&) override { take(); }
  void step(const Directive& directive) override {
    take();
    skips.push_back(directive.rule.skip);
  }
  void take() {
    const auto now = as<float>(service_.weights());
    all.emplace_back(now.begin(), now.end());
  }

  std::vector<std::vector<float>> all;
  std::vector<SkipReason> skips;

 private:
  const ParameterService& service_;
};

struct Outcome {
  index_t places = 0;    ///< that a value could be spoilt in, in the first step
  bool skipped = false;  ///< the first step
  bool clean = true;     ///< weights are finite, and unchanged by a step that is skipped
};

/// Two steps, the first with one `bad` value in the place of this number; none if it is negative.
Outcome train(const ModelConfig& model, Precision precision, index_t place, float bad) {
  const TransformerModel transformer(model);
  const Letters dataset(model.task);
  const BucketPlan plan(parameter_specs(model), std::vector<index_t>(3, 0),
                        {.placement = Placement::local}, 65536);
  ps::ServerConfig config = test::server_config(2);
  config.training = {.steps = 2, .batch = kBatch, .micro_batch = 1, .precision = precision};
  ps::Server server(plan, 0, config);
  ps::LocalService service(server, plan, [] { return false; });
  WeightsAfter weights(service);
  Outcome outcome;
  test::SpoiltKernels kernels;
  kernels.after = [&](Vector written) {
    if (!weights.skips.empty() || written.empty()) return;
    if (outcome.places++ != place) return;
    const auto values = as<float>(written);
    values[static_cast<std::size_t>(place * 7919) % values.size()] = bad;
  };
  SingleShard shards;
  SingleContext whole;
  TrainerParts trainer;
  trainer.config.training = config.training;
  trainer.config.length = kLength;
  StageParts parts;
  parts.model = &transformer;
  parts.holding = &plan.holding({});
  parts.cut = {.last_unit = 2, .micro_batch = 1};
  parts.dataset = &dataset;
  parts.slots.activations = schedule_of(trainer.config, {}, kBatch).activation_slots.front();
  parts.parameters = &service;
  parts.kernels = &kernels;
  parts.shards = &shards;
  parts.contexts = &whole;
  Stage stage(std::move(parts));
  trainer.parameters = &service;
  trainer.stage = &stage;
  trainer.dataset = &dataset;
  trainer.observers = {&weights};
  Trainer(trainer).run();
  REQUIRE(weights.all.size() == 3);
  outcome.skipped = weights.skips[0] != SkipReason::none;
  if (outcome.skipped) outcome.clean = weights.all[1] == weights.all[0];
  for (const std::vector<float>& each : weights.all) {
    outcome.clean &= std::ranges::all_of(each, [](float value) { return std::isfinite(value); });
  }
  outcome.clean &= weights.skips[1] == SkipReason::none && weights.all[2] != weights.all[1];
  return outcome;
}

}  // namespace

TEST_CASE("NaN or infinity after any call of a kernel: no weight ever sees it") {
  const test::QuietLog quiet;
  for (const Task task : {Task::language, Task::classifier}) {
    for (const GlobalForm globals : {GlobalForm::shared, GlobalForm::split}) {
      ModelConfig model = {.task = task, .layers = 1, .width = 8, .heads = 2, .feed_forward = 16};
      model.dropout = 0.1;
      model.left = 4;
      model.right = task == Task::classifier ? 4 : 0;
      model.global_tokens = "0";
      model.globals = globals;
      model.global_heads = 2;
      model.vocabulary = 16;
      model.classes = 3;
      model.length = kLength;
      for (const Precision precision : {Precision::fp32, Precision::fp16}) {
        const Outcome good = train(model, precision, -1, 0);
        CHECK(good.clean);
        CHECK_FALSE(good.skipped);
        CHECK(good.places > 60);
        index_t skipped = 0;
        for (index_t place = 0; place < good.places; ++place) {
          const float bad = place % 3 == 0 ? std::numeric_limits<float>::infinity()
                                           : std::numeric_limits<float>::quiet_NaN();
          const Outcome outcome = train(model, precision, place, bad);
          if (!outcome.clean) FAIL_CHECK("place ", place, " of ", good.places);
          skipped += outcome.skipped ? 1 : 0;
        }
        // The others were overwritten, dropped or never looked at.
        CHECK(skipped > good.places * 2 / 3);
        MESSAGE(skipped, " of ", good.places);
      }
    }
  }
}
