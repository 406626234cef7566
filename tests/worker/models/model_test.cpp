#include "worker/models/model.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/worker/models/harness.hpp"
#include "tests/worker/numbers.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

using namespace weir;
using namespace weir::test;
using worker::GlobalForm;
using worker::ModelConfig;
using worker::Pooling;
using worker::Positions;
using worker::Task;

namespace {

ModelConfig small_language() {
  ModelConfig config;
  config.layers = 1;
  config.width = 8;
  config.heads = 4;
  config.feed_forward = 12;
  config.left = 2;
  config.global_tokens = "0";
  config.vocabulary = 7;
  config.length = 9;
  return config;
}

ModelConfig small_classifier() {
  ModelConfig config = small_language();
  config.task = Task::classifier;
  config.classes = 3;
  config.right = 1;
  return config;
}

/// Cut by 3; a few operations a sample, for many parameters.
ModelConfig three_shards() {
  ModelConfig config = small_language();
  config.width = 6;
  config.heads = 3;
  config.feed_forward = 3;
  config.length = 4;
  return config;
}

/// Everything on: two layers, dropout, learned positions, an output embedding of its own.
ModelConfig all_on() {
  ModelConfig config = small_language();
  config.layers = 2;
  config.dropout = 0.3;
  config.positions = Positions::learned;
  config.tied = false;
  return config;
}

const std::vector<Cut> kShards = {{.shards = 1}, {.shards = 2}, {.shards = 4}};

/// Sequences of 9 tokens in parts that are never shorter than the window of 2.
const std::vector<Cut> kContexts = {{.contexts = 1},
                                    {.contexts = 2},
                                    {.contexts = 3},
                                    {.contexts = 4},
                                    {.contexts = 2, .shards = 2},
                                    {.stages = 2, .contexts = 3, .shards = 2}};

/// Padded sequences, one of which ends in the first part; dropout.
void check_contexts(ModelConfig config) {
  config.dropout = 0.3;
  check_against_twin(config, random_batch(config, {9, 1, 5}, 13), kContexts);
}

}  // namespace

TEST_CASE("a language model's loss and every gradient are the twin's, on 1, 2 and 4 shards") {
  const ModelConfig config = small_language();
  check_against_twin(config, random_batch(config, {9, 9}, 1), kShards);
}

TEST_CASE("1 to 8 shards of a head each have the twin's loss and gradients, with dropout") {
  for (index_t shards = 1; shards <= 8; ++shards) {
    ModelConfig config = small_language();
    config.heads = shards;
    config.width = 4 * shards;
    config.feed_forward = shards;
    config.dropout = 0.2;
    config.positions = Positions::learned;
    config.length = 5;  // fewer tokens than shards, too
    check_against_twin(config, random_batch(config, {5}, 21), {{.shards = shards}});
  }
}

TEST_CASE("what shards keep and send between stages is their part of the rows") {
  const ModelConfig config = all_on();
  const worker::TransformerModel model(config);
  const worker::CpuKernels kernels;
  const auto memory = [&](index_t shards) {
    return model.memory({.first_unit = 1, .last_unit = 1, .shards = shards, .micro_batch = 400},
                        kernels);
  };
  const double whole = static_cast<double>(memory(1).bytes_an_activation_slot);
  CHECK(static_cast<double>(memory(2).bytes_an_activation_slot) < whole * 0.51);
  CHECK(static_cast<double>(memory(4).bytes_an_activation_slot) < whole * 0.26);
  const worker::StageCut cut = {.shards = 4, .micro_batch = 3};  // 27 rows: 6, 7, 7 and 7
  CHECK(model.frame(1, largest_batch(model, cut)) ==
        worker::FrameShape{{Dtype::f32, 7, config.width}});
}

TEST_CASE("a classifier's loss and every gradient are the twin's, padded, on 1, 2 and 4 shards") {
  const ModelConfig config = small_classifier();
  check_against_twin(config, random_batch(config, {9, 1, 5}, 2), kShards);
}

TEST_CASE("a classifier that reads both ends has the twin's gradients, short sequences too") {
  for (const std::string globals : {"none", "0", "0-2", "1"}) {
    CAPTURE(globals);
    ModelConfig config = small_classifier();
    config.pooling = Pooling::ends;
    config.global_tokens = globals;
    check_against_twin(config, random_batch(config, {9, 1, 2, 5}, 13),
                       {{.shards = 1}, {.shards = 2}, {.contexts = 3}});
  }
}

TEST_CASE("two layers, dropout, learned positions and an untied output agree with the twin") {
  const ModelConfig config = all_on();
  check_against_twin(config, random_batch(config, {9, 4}, 3),
                     {{.shards = 1}, {.shards = 2}, {.stages = 2, .shards = 2}});
}

TEST_CASE("padding, and targets missing inside a sequence, give no loss and no gradient") {
  const ModelConfig config = small_language();
  BatchData batch = random_batch(config, {9, 3, 1}, 4);
  batch.targets[2] = -1;
  check_against_twin(config, batch, {{.shards = 1}, {.shards = 2}});
}

TEST_CASE("any form of attention agrees with the twin") {
  struct Form {
    index_t left, right;
    const char* globals;
  };
  for (const Form form : {Form{50, 50, "none"},   // wider than the sequence
                          Form{0, 0, "0-1"},      // globals and self alone
                          Form{3, 1, "none"},     // no globals
                          Form{1, 0, "0-49"}}) {  // only globals
    CAPTURE(form.left);
    CAPTURE(form.globals);
    for (ModelConfig config : {small_language(), small_classifier()}) {
      config.left = form.left;
      config.right = config.task == Task::language ? 0 : form.right;
      config.global_tokens = form.globals;
      config.length = 6;
      check_against_twin(config, random_batch(config, {6, 4}, 5), {{.shards = 1}, {.shards = 2}});
    }
  }
}

TEST_CASE("global tokens with projections of their own agree with the twin, however it is cut") {
  for (const GlobalForm form : {GlobalForm::separate, GlobalForm::split}) {
    for (ModelConfig config : {small_language(), small_classifier()}) {
      CAPTURE(static_cast<int>(form));
      CAPTURE(static_cast<int>(config.task));
      config.globals = form;
      config.global_tokens = "0,5";
      config.global_heads = 2;
      check_against_twin(config, random_batch(config, {9, 4}, 14),
                         {{.shards = 1},
                          {.shards = 2},
                          {.contexts = 2},
                          {.contexts = 3},
                          {.stages = 2, .contexts = 2, .shards = 2}});
    }
  }
}

TEST_CASE("a forward that runs again before backward gives the same bits") {
  for (ModelConfig config : {all_on(), small_classifier()}) {
    for (const GlobalForm form : {GlobalForm::shared, GlobalForm::separate, GlobalForm::split}) {
      config.globals = form;
      const Arrays parameters = random_parameters(config, 1);
      const BatchData whole = random_batch(config, {9, 5, 7, 2}, 15);
      std::vector<BatchData> parts;
      for (index_t index = 0; index < 4; ++index) {
        parts.push_back(part_of(whole, config, index, index + 1));
      }
      for (Cut cut : {Cut{.slots = 2}, Cut{.contexts = 2, .shards = 2}}) {
        const Outcome truth = run(config, parameters, parts, cut, 3);
        cut.recompute = worker::Recompute::block;
        const Outcome found = run(config, parameters, parts, cut, 3);
        CHECK(found.losses[0].sum == truth.losses[0].sum);
        CHECK(found.gradients == truth.gradients);
      }
    }
  }
}

TEST_CASE("weight gradients of shards that wait for later backwards have the same bits") {
  ModelConfig config = all_on();
  for (const GlobalForm form : {GlobalForm::shared, GlobalForm::separate, GlobalForm::split}) {
    CAPTURE(static_cast<int>(form));
    config.globals = form;
    const Arrays parameters = random_parameters(config, 1);
    const BatchData whole = random_batch(config, {9, 5, 7}, 16);
    const std::vector<BatchData> parts = {part_of(whole, config, 0, 2),
                                          part_of(whole, config, 2, 3)};
    for (Cut cut : {Cut{.shards = 2}, Cut{.contexts = 2, .shards = 2}}) {
      cut.slots = 2;
      const Outcome truth = run(config, parameters, parts, cut, 3);
      cut.defers_weights = true;
      const Outcome found = run(config, parameters, parts, cut, 3);
      CHECK(found.losses[0].sum == truth.losses[0].sum);
      CHECK(found.gradients == truth.gradients);
    }
  }
}

TEST_CASE("a vocabulary that shards cut unevenly, or not at all for some, needs no padding") {
  for (const index_t vocabulary : {256, 4, 2}) {  // on 3 shards 86 86 84, 2 2 0, 1 1 0
    for (const bool tied : {true, false}) {
      CAPTURE(vocabulary);
      CAPTURE(tied);
      ModelConfig config = three_shards();
      config.vocabulary = vocabulary;
      config.tied = tied;
      check_against_twin(config, random_batch(config, {4}, 6), {{.shards = 1}, {.shards = 3}});
    }
  }
}

TEST_CASE("a tied embedding collects the gradients of the first and the last stage") {
  ModelConfig config = small_language();
  config.layers = 2;
  check_against_twin(config, random_batch(config, {9}, 7),
                     {{.stages = 1}, {.stages = 2}, {.stages = 4}, {.stages = 2, .shards = 2}});
}

TEST_CASE("tokens that see themselves alone have the gradients of one rank on any contexts") {
  for (ModelConfig config : {small_language(), small_classifier()}) {
    config.left = config.right = 0;
    config.global_tokens = "none";
    for (const Positions positions : {Positions::rotary, Positions::learned}) {
      config.positions = positions;
      check_contexts(config);
    }
  }
}

TEST_CASE(
    "a sequence cut over 1, 2, 3 and 4 contexts has the one-rank gradients, every parameter") {
  for (ModelConfig config : {small_language(), small_classifier()}) {
    for (const Positions positions : {Positions::rotary, Positions::learned}) {
      config.positions = positions;
      check_contexts(config);
    }
  }
}

TEST_CASE("how a batch is cut into micro-batches does not show") {
  for (const ModelConfig& config : {all_on(), small_classifier()}) {
    const Arrays parameters = random_parameters(config, 1);
    const BatchData whole = random_batch(config, {9, 5, 7, 2}, 8);
    const Outcome truth = run(config, parameters, {whole}, {}, 3);
    for (const index_t sequences : {1, 2, 3}) {
      CAPTURE(sequences);
      std::vector<BatchData> parts;
      for (index_t begin = 0; begin < 4; begin += sequences) {
        parts.push_back(part_of(whole, config, begin, std::min<index_t>(4, begin + sequences)));
      }
      const Outcome found = run(config, parameters, parts, {}, 3);
      CHECK(found.losses[0].sum == doctest::Approx(truth.losses[0].sum).epsilon(1e-6));
      CHECK(found.losses[0].count == truth.losses[0].count);
      CHECK(found.losses[0].correct == truth.losses[0].correct);
      for (const auto& [name, gradient] : truth.gradients) {
        CAPTURE(name);
        check_close(found.gradients.at(name), gradient, 1e-5);
      }
    }
  }
}

TEST_CASE(
    "micro-batches in slots of their own, and weight gradients that wait for later backwards, have "
    "the same bits") {
  const std::vector<Cut> cuts = {{.slots = 2},
                                 {.slots = 3},
                                 {.slots = 4},
                                 {.slots = 1, .defers_weights = true},
                                 {.slots = 2, .defers_weights = true},
                                 {.slots = 4, .defers_weights = true}};
  for (const ModelConfig& config : {all_on(), small_classifier()}) {
    const Arrays parameters = random_parameters(config, 1);
    const BatchData whole = random_batch(config, {9, 5, 7, 2}, 9);
    std::vector<BatchData> parts;
    for (index_t index = 0; index < 4; ++index) {
      parts.push_back(part_of(whole, config, index, index + 1));
    }
    const Outcome truth = run(config, parameters, parts, {.slots = 1}, 3);
    for (const Cut& cut : cuts) {
      CAPTURE(cut.slots);
      CAPTURE(cut.defers_weights);
      const Outcome found = run(config, parameters, parts, cut, 3);
      CHECK(found.losses[0].sum == truth.losses[0].sum);
      CHECK(found.gradients == truth.gradients);
    }
  }
}

TEST_CASE("evaluation drops nothing, needs no gradients and counts what is right") {
  for (const ModelConfig& config : {all_on(), small_classifier()}) {
    const Arrays parameters = random_parameters(config, 2);
    const Twin twin = twin_of(config, parameters);
    BatchData batch = random_batch(config, {9, 5, 7, 2}, 10);
    const Outcome outcome = run(config, parameters, {batch}, {.shards = 2, .training = false}, 3);
    CHECK(outcome.losses[0].sum ==
          doctest::Approx(twin.loss(batch.view(), 3, false)).epsilon(1e-5));
    // One sequence alone, with each label in turn: exactly one label is the most likely.
    if (config.task == Task::language) continue;
    const BatchData alone = part_of(batch, config, 0, 1);
    index_t right = 0;
    double likelihoods = 0;
    for (std::int32_t label = 0; label < config.classes; ++label) {
      BatchData labelled = alone;
      labelled.targets = {label};
      const worker::Loss loss =
          run(config, parameters, {labelled}, {.training = false}, 3).losses[0];
      right += loss.correct;
      likelihoods += std::exp(-loss.sum);
      if (loss.correct == 1) CHECK(std::exp(-loss.sum) > 1.0 / 3);
    }
    CHECK(right == 1);
    CHECK(likelihoods == doctest::Approx(1));
  }
}

TEST_CASE("dropout is another draw for another seed and sample, and the same on every shard") {
  const ModelConfig config = all_on();
  const Arrays parameters = random_parameters(config, 2);
  BatchData batch = random_batch(config, {9}, 11);
  const double loss = run(config, parameters, {batch}, {}, 3).losses[0].sum;
  CHECK(run(config, parameters, {batch}, {}, 3).losses[0].sum == loss);
  CHECK(run(config, parameters, {batch}, {}, 4).losses[0].sum != loss);
  batch.samples[0] += 1;
  CHECK(run(config, parameters, {batch}, {}, 3).losses[0].sum != loss);
}

TEST_CASE("the logits of the next token are the twin's, at every length") {
  const ModelConfig config = all_on();
  const Arrays parameters = random_parameters(config, 2);
  const Twin twin = twin_of(config, parameters);
  for (index_t length = 1; length <= config.length; ++length) {
    CAPTURE(length);
    BatchData batch = random_batch(config, {length}, 12);
    batch.length = length;
    batch.tokens.resize(length);
    const auto truth = twin.logits(batch.view(), 0);
    check_close(next_logits(config, parameters, batch), truth.back(), 1e-5);
  }
}
