#include "worker/train/loss_scaling.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/worker/train/plain_service.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/models/transformer/transformer.hpp"
#include "worker/train/trainer.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

constexpr index_t kLength = 24, kBatch = 4, kMicroBatch = 2;

/// Sequences of two kinds, with targets for a language model and labels for a classifier.
class Kinds final : public Dataset {
 public:
  explicit Kinds(Task task) : task_(task) {}
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
    const auto token = [&](index_t at) {
      return static_cast<std::int32_t>((cursor * 5 + at * (1 + cursor % 2)) % 16);
    };
    for (index_t at = 0; at < kLength; ++at) {
      const auto i = static_cast<std::size_t>(at);
      sample.integers("tokens")[i] = token(at);
      if (task_ == Task::language) sample.integers("targets")[i] = token(at + 1);
    }
    if (task_ == Task::classifier) {
      sample.integers("labels")[0] = static_cast<std::int32_t>(cursor % 2);
    }
    sample.length = kLength;
  }
  index_t validation_size() const override { return 0; }
  void validation_sample(index_t, Sample&) const override {}
  std::string describe() const override { return "kinds"; }

 private:
  Task task_;
};

ModelConfig model_of(Task task) {
  ModelConfig model = {.task = task, .layers = 2, .width = 32, .heads = 2, .feed_forward = 64};
  model.dropout = 0.1;
  model.left = 6;
  model.globals = GlobalForm::separate;
  model.global_tokens = "0,3";
  model.vocabulary = 16;
  model.classes = 3;
  model.length = kLength;
  return model;
}

/// Losses of some steps; `scale` is what the servers say.
std::vector<double> losses_of(Task task, Precision precision, double scale) {
  const ModelConfig model = model_of(task);
  const TransformerModel transformer(model);
  const Kinds dataset(task);
  const BucketPlan plan(parameter_specs(model), std::vector<index_t>(4, 0), Layout{}, 65536);
  test::PlainService service(plan, 1, 0.3, kBatch, 8);
  service.micro_batch = kMicroBatch;
  service.loss_scale = scale;
  CpuKernels kernels;
  SingleShard shards;
  SingleContext whole;
  TrainerParts trainer;
  trainer.config.training = {
      .steps = 8, .batch = kBatch, .micro_batch = kMicroBatch, .precision = precision};
  trainer.config.length = kLength;
  StageParts parts;
  parts.model = &transformer;
  parts.holding = &plan.holding({});
  parts.chunks = {{.cut = {.last_unit = 3, .micro_batch = kMicroBatch},
                   .slots = {schedule_of(trainer.config, {}, 2).activation_slots.front()}}};
  parts.dataset = &dataset;
  parts.parameters = &service;
  parts.kernels = &kernels;
  parts.shards = &shards;
  parts.contexts = &whole;
  Stage stage(std::move(parts));
  trainer.parameters = &service;
  trainer.stage = &stage;
  trainer.dataset = &dataset;
  Trainer(trainer).run();
  CHECK(service.reported_scale == scale);
  return service.losses;
}

}  // namespace

TEST_CASE("the scale is for a mean: it is divided by the terms of a batch, up to a power of two") {
  CHECK(loss_terms(Kinds(Task::language).shape(), 8) == 8 * kLength);
  CHECK(loss_terms(Kinds(Task::classifier).shape(), 8) == 8);
  CHECK(loss_factor(Precision::fp16, 65536, 192) == 256);
  CHECK(loss_factor(Precision::fp16, 65536, 256) == 256);
  CHECK(loss_factor(Precision::fp16, 65536, 257) == 128);
  CHECK(loss_factor(Precision::fp16, 0x1p-5, 1) == 0x1p-5F);
  CHECK(loss_factor(Precision::fp32, 65536, 192) == 1);
  CHECK(loss_factor(Precision::bf16, 65536, 192) == 1);
}

TEST_CASE("as a power of two the scale shows in no bit where the range is that of f32") {
  for (const Task task : {Task::language, Task::classifier}) {
    const std::vector<double> plain = losses_of(task, Precision::fp32, 1);
    REQUIRE(plain.size() == 8);
    CHECK(std::ranges::min(plain) < plain.front());  // it learns, so gradients matter
    for (const double scale : {0x1p16, 0x1p-3, 128.0}) {
      CAPTURE(scale);
      CHECK(losses_of(task, Precision::fp16, scale) == plain);
    }
  }
}

TEST_CASE("every gradient loses the factor once, on every layout, before its bucket may leave") {
  const ModelConfig model = model_of(Task::language);
  const TransformerModel transformer(model);
  for (const Layout& layout :
       {Layout{}, {.stages = 2}, {.shards = 2}, {.stages = 2, .shards = 2}}) {
    CAPTURE(layout.arithmetic());
    const std::vector<index_t> unit_stage =
        layout.stages == 1 ? std::vector<index_t>{0, 0, 0, 0} : std::vector<index_t>{0, 0, 1, 1};
    const BucketPlan plan(parameter_specs(model), unit_stage, layout, 65536);
    for (index_t stage = 0; stage < layout.stages; ++stage) {
      for (index_t shard = 0; shard < layout.shards; ++shard) {
        const Holding& holding = plan.holding(holder_of({.stage = stage, .shard = shard}));
        const index_t first_unit = 2 * stage;
        const index_t last_unit = layout.stages == 1 ? 3 : first_unit + 1;
        const Unscaling unscaling(transformer, holding, first_unit);
        std::vector<float> gradients(static_cast<std::size_t>(holding.element_count), 1024.0F);
        for (index_t unit = last_unit; unit >= first_unit; --unit) {
          unscaling.complete(unit, 1024, gradients);
          for (const HeldBucket& held : holding.buckets) {
            if (held.lowest_unit < unit) continue;
            const auto part = as<float>(plan.part(Vector(gradients), held));
            CHECK(std::ranges::all_of(part, [](float value) { return value == 1; }));
          }
        }
        CHECK(std::ranges::all_of(gradients, [](float value) { return value == 1; }));
        unscaling.complete(first_unit, 1, gradients);
        CHECK(std::ranges::all_of(gradients, [](float value) { return value == 1; }));
        std::ranges::fill(gradients, std::numeric_limits<float>::infinity());
        gradients[7] = std::nanf("");
        for (index_t unit = last_unit; unit >= first_unit; --unit) {
          unscaling.complete(unit, 0x1p30F, gradients);
        }
        CHECK(std::isnan(gradients[7]));
        CHECK(std::ranges::count_if(gradients, [](float value) { return std::isinf(value); }) ==
              holding.element_count - 1);
      }
    }
  }
}
