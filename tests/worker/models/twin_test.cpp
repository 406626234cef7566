// What the twin itself must satisfy, where no other truth is at hand.
#include "tests/worker/models/twin.hpp"

#include <doctest/doctest.h>

#include "common/job/parameter.hpp"
#include "tests/worker/numbers.hpp"

using namespace weir;
using namespace weir::test;
using worker::GlobalForm;
using worker::ModelConfig;

namespace {

ModelConfig small(worker::Task task) {
  ModelConfig config;
  config.task = task;
  config.classes = 3;
  config.layers = 2;
  config.width = 8;
  config.heads = 4;
  config.global_heads = 4;
  config.feed_forward = 12;
  config.left = 2;
  config.right = task == worker::Task::language ? 0 : 1;
  config.global_tokens = "1,5";
  config.vocabulary = 7;
  config.length = 9;
  return config;
}

/// Random; those of the global tokens are copies of the others'.
Twin::Parameters parameters_of(const ModelConfig& config) {
  Twin::Parameters parameters;
  for (const ParameterSpec& spec : worker::parameter_specs(config)) {
    std::string name = spec.name;
    if (const std::size_t at = name.find("global_"); at != std::string::npos) name.erase(at, 7);
    parameters[spec.name] = in_double(random_values(spec.element_count(), 1, name, 0.5F, 0.1F));
  }
  return parameters;
}

double loss_of(const ModelConfig& config, const Twin::Parameters& parameters) {
  const BatchData batch = random_batch(config, {9, 4}, 3);
  return Twin(config, parameters).loss(batch.view(), 1, false);
}

}  // namespace

TEST_CASE("twin: without rotation, separate projections with the shared ones' weights are shared") {
  for (const worker::Task task : {worker::Task::language, worker::Task::classifier}) {
    ModelConfig config = small(task);
    config.positions = worker::Positions::learned;
    const double shared = loss_of(config, parameters_of(config));
    config.globals = GlobalForm::separate;
    Twin::Parameters parameters = parameters_of(config);
    CHECK(loss_of(config, parameters) == doctest::Approx(shared).epsilon(1e-12));
    parameters.at("layers.1.attention.global_value.bias")[0] += 1;
    CHECK(loss_of(config, parameters) != doctest::Approx(shared).epsilon(1e-6));
    // The global tokens are not rotated.
    config.positions = worker::Positions::rotary;
    const double rotated = loss_of(config, parameters_of(config));
    config.globals = GlobalForm::shared;
    CHECK(rotated != doctest::Approx(loss_of(config, parameters_of(config))).epsilon(1e-6));
  }
}

TEST_CASE("twin: split is two attentions that exchange nothing: sequences of one kind show each") {
  ModelConfig config = small(worker::Task::classifier);
  config.layers = 1;
  config.positions = worker::Positions::learned;
  // Global tokens alone: the local branch has no say, and the global one is full attention.
  config.global_tokens = "0-8";
  config.globals = GlobalForm::split;
  Twin::Parameters parameters = parameters_of(config);
  const double split = loss_of(config, parameters);
  for (double& value : parameters.at("layers.0.attention.query.weight")) value = 7;
  for (double& value : parameters.at("layers.0.attention.output.bias")) value = 7;
  CHECK(loss_of(config, parameters) == split);
  config.globals = GlobalForm::shared;
  CHECK(split == doctest::Approx(loss_of(config, parameters_of(config))).epsilon(1e-12));
  // Other heads, another softmax.
  config.globals = GlobalForm::split;
  config.global_heads = 2;
  CHECK(split != doctest::Approx(loss_of(config, parameters_of(config))).epsilon(1e-6));

  // The global tokens lie in the padding: what is left is window attention among local ones.
  config.global_tokens = "7,8";
  config.global_heads = 4;
  const BatchData batch = random_batch(config, {6}, 3);
  const double local = Twin(config, parameters_of(config)).loss(batch.view(), 1, false);
  config.globals = GlobalForm::shared;
  config.global_tokens = "none";
  const double window = Twin(config, parameters_of(config)).loss(batch.view(), 1, false);
  CHECK(local == doctest::Approx(window).epsilon(1e-12));
}
