#include <doctest/doctest.h>

#include <cmath>

#include "tests/worker/low_types.hpp"
#include "tests/worker/models/harness.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

using namespace weir;
using namespace weir::test;
using worker::GlobalForm;
using worker::ModelConfig;
using worker::Task;

namespace {

constexpr std::uint64_t kSeed = 21;

ModelConfig small_model(Task task, GlobalForm form, Dtype dtype) {
  ModelConfig config;
  config.task = task;
  config.layers = 2;
  config.width = 8;
  config.heads = 4;
  config.feed_forward = 8;
  config.left = 2;
  config.right = task == Task::classifier ? 1 : 0;
  config.classes = task == Task::classifier ? 3 : 0;
  config.global_tokens = "0,4";
  config.globals = form;
  config.dropout = 0.1;
  config.vocabulary = 7;
  config.length = 9;
  config.dtype = dtype;
  return config;
}

/// Weights as large as trained ones, and numbers of the low type already.
Arrays rounded_parameters(const ModelConfig& config) {
  Arrays parameters = random_parameters(config, kSeed);
  for (auto& [name, values] : parameters) {
    Memory low(std::ssize(values), bytes_of(config.dtype));
    for (float& value : values) value *= name.ends_with("norm.weight") ? 1.0F : 0.3F;
    round_to(values, low.elements(config.dtype));
    values = floats_of(low.elements(config.dtype));
  }
  return parameters;
}

/// |found - truth| / |truth| over all gradients together.
double distance(const Arrays& found, const Twin::Parameters& truth) {
  double difference = 0, square = 0;
  for (const auto& [name, values] : truth) {
    const std::vector<float>& own = found.at(name);
    for (std::size_t i = 0; i < values.size(); ++i) {
      difference += (own[i] - values[i]) * (own[i] - values[i]);
      square += values[i] * values[i];
    }
  }
  return std::sqrt(difference / square);
}

/// Half the distance between 1 and the next number: the relative error of one rounding.
double rounding_of(Dtype dtype) { return dtype == Dtype::bf16 ? 0x1p-9 : 0x1p-12; }

const std::vector<Cut> kCuts = {
    {}, {.shards = 2}, {.contexts = 2}, {.stages = 2, .contexts = 3, .shards = 2}};

}  // namespace

TEST_CASE("bf16 and fp16: loss and gradients are the f64 twin's but for some roundings") {
  // A gradient passes some 40 tensors of the low type in two layers; errors add up like chance.
  constexpr double kLossRoundings = 2, kGradientRoundings = 12;
  struct Case {
    Dtype dtype;
    Task task;
    GlobalForm form;
  };
  for (const auto& [dtype, task, form] : {Case{Dtype::bf16, Task::language, GlobalForm::shared},
                                          {Dtype::bf16, Task::language, GlobalForm::split},
                                          {Dtype::bf16, Task::classifier, GlobalForm::separate},
                                          {Dtype::fp16, Task::language, GlobalForm::separate},
                                          {Dtype::fp16, Task::classifier, GlobalForm::shared},
                                          {Dtype::fp16, Task::classifier, GlobalForm::split}}) {
    const ModelConfig config = small_model(task, form, dtype);
    CAPTURE(name_of(dtype));
    CAPTURE(static_cast<int>(task));
    CAPTURE(static_cast<int>(form));
    const BatchData batch = random_batch(config, {9, 5}, 5);
    const Arrays parameters = rounded_parameters(config);
    Twin twin = twin_of(config, parameters);
    const double loss = twin.loss(batch.view(), kSeed, true);
    const Twin::Parameters gradients = twin.gradients(batch.view(), kSeed);
    for (const Cut& cut : kCuts) {
      CAPTURE(cut.stages);
      CAPTURE(cut.contexts);
      CAPTURE(cut.shards);
      const Outcome outcome = run(config, parameters, {batch}, cut, kSeed);
      CHECK(std::abs(outcome.losses[0].sum - loss) < kLossRoundings * rounding_of(dtype) * loss);
      CHECK(distance(outcome.gradients, gradients) < kGradientRoundings * rounding_of(dtype));
    }
  }
}

TEST_CASE("bf16: recomputation, stages and the order of weight gradients change no bit") {
  ModelConfig config = small_model(Task::language, GlobalForm::split, Dtype::bf16);
  config.tied = false;  // the two copies of a tied embedding are summed by the servers
  const Arrays parameters = rounded_parameters(config);
  const std::vector<BatchData> batches = {random_batch(config, {9, 5}, 5),
                                          random_batch(config, {3, 9}, 6)};
  const Outcome plain = run(config, parameters, batches, {.slots = 2}, kSeed);
  for (const Cut& cut :
       {Cut{.stages = 2, .slots = 2}, Cut{.slots = 2, .recompute = worker::Recompute::block},
        Cut{.stages = 4, .slots = 2, .defers_weights = true}}) {
    CAPTURE(cut.stages);
    const Outcome outcome = run(config, parameters, batches, cut, kSeed);
    CHECK(outcome.losses[0].sum == plain.losses[0].sum);
    CHECK(outcome.gradients == plain.gradients);
  }
}

TEST_CASE("bf16 and fp16: frames between units have exactly half the bytes") {
  for (const Task task : {Task::language, Task::classifier}) {
    const auto bytes_at = [&](Dtype dtype, index_t border) {
      const worker::TransformerModel model{small_model(task, GlobalForm::split, dtype)};
      index_t bytes = 0;
      for (const auto& tensor :
           model.frame(border, {.sequences = 2, .length = 9, .own_rows = 18})) {
        bytes += tensor.bytes();
      }
      return bytes;
    };
    for (index_t border = 1; border <= 3; ++border) {
      CAPTURE(border);
      CHECK(bytes_at(Dtype::f32, border) >= 2 * 9 * 8 * 4);
      CHECK(bytes_at(Dtype::bf16, border) * 2 == bytes_at(Dtype::f32, border));
      CHECK(bytes_at(Dtype::fp16, border) * 2 == bytes_at(Dtype::f32, border));
    }
  }
}
