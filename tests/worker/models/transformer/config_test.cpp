#include "worker/models/transformer/config.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "common/base/error.hpp"
#include "worker/models/transformer/held_parameters.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

const ParameterSpec& find(const std::vector<ParameterSpec>& specs, const std::string& name) {
  const auto found = std::ranges::find(specs, name, &ParameterSpec::name);
  REQUIRE(found != specs.end());
  return *found;
}

std::string message_of(const ModelConfig& config, const Layout& layout) {
  try {
    check(config, layout);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a model is made for the columns of its data, and refuses data it cannot learn from") {
  const ColumnShape tokens = {.name = "tokens", .ragged = true, .values = 16};
  const ColumnShape targets = {.name = "targets", .ragged = true, .values = 16, .is_target = true};
  const ColumnShape labels = {.name = "labels", .values = 10, .is_target = true};
  ModelConfig language;
  fit(language, {40, {tokens, targets}});
  CHECK(language.length == 40);
  CHECK(language.vocabulary == 16);
  CHECK(language.classes == 0);
  ModelConfig classifier = {.task = Task::classifier};
  fit(classifier, {40, {labels, tokens}});
  CHECK(classifier.vocabulary == 16);
  CHECK(classifier.classes == 10);
  CHECK_THROWS_WITH_AS(fit(language, {40, {tokens, labels}}),
                       doctest::Contains("take --model.task classifier"), UsageError);
  CHECK_THROWS_WITH_AS(fit(classifier, {40, {tokens, targets}}),
                       doctest::Contains("take --model.task language"), UsageError);
  CHECK_THROWS_WITH_AS(fit(language, {40, {labels}}), doctest::Contains("no sequences of tokens"),
                       UsageError);
}

TEST_CASE("what cannot be built or cut is refused with the numbers and the way out") {
  const ModelConfig good;
  CHECK(message_of(good, {.stages = 4, .shards = 4}) == "");
  ModelConfig config = good;
  config.width = 130;
  CHECK(message_of(config, {}) ==
        "--model.width 130 is not a multiple of --model.heads 4; take --model.width 128 or 132");
  config = good;
  config.width = 60;
  CHECK(message_of(config, {}) ==
        "--model.width 60 / --model.heads 4 makes heads of 15 features, but rotary positions need "
        "an even number; take --model.width 56 or 64, or --model.positions learned");
  config.positions = Positions::learned;
  CHECK(message_of(config, {}) == "");
  CHECK(message_of(good, {.shards = 3}) ==
        "--model.heads 4 is not a multiple of --shards 3; take --model.heads 3 or 6");
  CHECK(message_of(good, {.shards = 8}) ==
        "--model.heads 4 is not a multiple of --shards 8; take --model.heads 8");
  config = good;
  config.feed_forward = 511;
  CHECK(message_of(config, {.shards = 2}) ==
        "--model.feed-forward 511 is not a multiple of --shards 2; take --model.feed-forward 510 "
        "or 512");
  CHECK(message_of(good, {.stages = 5}) ==
        "--model.layers 4 cannot fill --stages 5: each stage needs a layer of its own; take "
        "--stages 4 or --model.layers 5");
  config = good;
  config.right = 3;
  CHECK(message_of(config, {}) ==
        "--attention.right 3 lets a language model see the tokens that it is to predict; take "
        "--attention.right 0, or --model.task classifier");
  config.task = Task::classifier;
  CHECK(message_of(config, {}) == "");
}

TEST_CASE("global tokens that cannot be are refused with the numbers and the way out") {
  ModelConfig config;
  config.length = 512;
  config.global_tokens = "0-3,512";
  for (const GlobalForm form : {GlobalForm::shared, GlobalForm::separate, GlobalForm::split}) {
    config.globals = form;
    CHECK(message_of(config, {}) ==
          "--attention.global-tokens 0-3,512: position 512 lies beyond --length 512; the largest "
          "that fits is 511");
  }
  config.global_tokens = "511";
  CHECK(message_of(config, {}) == "");
  config.global_tokens = "none";
  CHECK(message_of(config, {}) ==
        "--attention.globals split is for global tokens, but --attention.global-tokens is none; "
        "take --attention.global-tokens 0, or --attention.globals shared");
  config.globals = GlobalForm::separate;
  CHECK(message_of(config, {}) ==
        "--attention.globals separate is for global tokens, but --attention.global-tokens is none; "
        "take --attention.global-tokens 0, or --attention.globals shared");
  config.globals = GlobalForm::shared;
  CHECK(message_of(config, {}) == "");
}

TEST_CASE("heads of the global branch are checked where they are used: of split") {
  ModelConfig config;
  config.heads = 8;
  config.global_heads = 5;
  CHECK(message_of(config, {}) == "");
  config.globals = GlobalForm::separate;
  CHECK(message_of(config, {}) == "");
  CHECK(config.branch_heads() == 8);
  config.globals = GlobalForm::split;
  CHECK(config.branch_heads() == 5);
  CHECK(message_of(config, {}) ==
        "--model.width 128 is not a multiple of --attention.global-heads 5; take --model.width 125 "
        "or 130");
  config.global_heads = 4;
  CHECK(message_of(config, {.shards = 4}) == "");
  CHECK(message_of(config, {.shards = 8}) ==
        "--attention.global-heads 4 is not a multiple of --shards 8; take --attention.global-heads "
        "8");
}

TEST_CASE("every option row sets a field of its own and accepts the default") {
  ModelConfig config;
  std::set<const void*> fields;
  for (const Option& option : options(config)) {
    CAPTURE(option.name);
    CHECK(!option.help.empty());
    if (const auto* number = std::get_if<index_t*>(&option.field)) {
      CHECK(static_cast<double>(**number) >= option.range.low);
      CHECK(static_cast<double>(**number) <= option.range.high);
      CHECK(fields.insert(*number).second);
    }
  }
  CHECK(fields.size() == 7);
}

TEST_CASE("parameters: names, shapes, units and count of a tied language model") {
  ModelConfig config;
  config.layers = 2;
  const std::vector<ParameterSpec> specs = parameter_specs(config);
  CHECK(specs.front().name == "embedding.weight");
  CHECK(specs.front().units == std::vector<index_t>{0, 3});
  CHECK(find(specs, "layers.1.attention.key.weight").units == std::vector<index_t>{2});
  CHECK(find(specs, "final_norm.bias").units == std::vector<index_t>{3});
  index_t count = 0;
  std::set<std::string> names;
  index_t last_unit = 0;
  for (const ParameterSpec& spec : specs) {
    count += spec.element_count();
    CHECK(names.insert(spec.name).second);
    CHECK(spec.units.front() >= last_unit);
    last_unit = spec.units.front();
  }
  const index_t d = 128;
  const index_t block = 4 * d * d + 2 * d * 512 + 4 * d + 512 + d + 4 * d;
  CHECK(count == 256 * d + 2 * block + 2 * d);
}

TEST_CASE("parameters: what is split, starts how, and decays") {
  ModelConfig config;
  config.tied = false;
  config.positions = Positions::learned;
  config.deviation = 0.05;
  const std::vector<ParameterSpec> specs = parameter_specs(config);
  CHECK(find(specs, "embedding.weight").units == std::vector<index_t>{0});
  CHECK(find(specs, "output.weight").units == std::vector<index_t>{5});
  CHECK(find(specs, "positions.weight").shape == std::vector<index_t>{256, 128});
  std::set<std::string> whole;
  std::set<std::string> decaying;
  for (const ParameterSpec& spec : specs) {
    const std::string name = spec.name.starts_with("layers.") ? spec.name.substr(9) : spec.name;
    if (!spec.split) whole.insert(name);
    if (spec.decay) decaying.insert(name);
    const bool residual = name == "attention.output.weight" || name == "feed_forward.down.weight";
    if (spec.shape.size() == 2) {
      CHECK(spec.initial == Initial::normal);
      CHECK(spec.deviation == doctest::Approx(residual ? 0.05 / std::sqrt(8.0) : 0.05));
    } else {
      CHECK((spec.initial == Initial::ones) == name.ends_with("norm.weight"));
    }
  }
  CHECK(whole == std::set<std::string>{
                     "positions.weight", "attention_norm.weight", "attention_norm.bias",
                     "attention.output.bias", "feed_forward_norm.weight", "feed_forward_norm.bias",
                     "feed_forward.down.bias", "final_norm.weight", "final_norm.bias"});
  CHECK(decaying == std::set<std::string>{"attention.query.weight", "attention.key.weight",
                                          "attention.value.weight", "attention.output.weight",
                                          "feed_forward.up.weight", "feed_forward.down.weight",
                                          "output.weight"});
}

TEST_CASE("parameters: a key has a bias only where positions are rotated") {
  for (const GlobalForm form : {GlobalForm::shared, GlobalForm::separate, GlobalForm::split}) {
    ModelConfig config;
    config.layers = 2;
    config.globals = form;
    const auto names = [&] {
      std::set<std::string> all;
      for (const ParameterSpec& spec : parameter_specs(config)) all.insert(spec.name);
      return all;
    };
    const std::set<std::string> rotary = names();
    CHECK(obsolete_parameters(config).empty());
    config.positions = Positions::learned;
    std::set<std::string> learned = names();
    CHECK(learned.erase("positions.weight") == 1);
    const std::vector<std::string> obsolete = obsolete_parameters(config);
    CHECK(obsolete ==
          std::vector<std::string>{"layers.0.attention.key.bias", "layers.1.attention.key.bias"});
    CHECK(learned.size() + 2 == rotary.size());
    learned.insert(obsolete.begin(), obsolete.end());
    CHECK(learned == rotary);
  }
}

TEST_CASE("a table of learned positions may be longer than the sequences, not shorter") {
  ModelConfig config;
  config.positions = Positions::learned;
  config.length = 100;
  config.learned_positions = 256;
  CHECK(find(parameter_specs(config), "positions.weight").shape == std::vector<index_t>{256, 128});
  CHECK_NOTHROW(check(config, {}));
  config.length = 257;
  CHECK_THROWS_WITH_AS(check(config, {}),
                       "--length 257: the checkpoint has learned 256 positions, and a token behind "
                       "them has none; take --length 256 or less",
                       UsageError);
}

TEST_CASE("parameters: what global tokens have of their own") {
  ModelConfig config;
  config.layers = 2;
  const std::size_t shared = parameter_specs(config).size();
  const std::string attention = "layers.1.attention.";

  config.globals = GlobalForm::separate;
  std::vector<ParameterSpec> specs = parameter_specs(config);
  CHECK(specs.size() == shared + 2 * 5);
  for (const std::string projection : {"query", "key", "value"}) {
    CAPTURE(projection);
    const ParameterSpec& weight = find(specs, attention + "global_" + projection + ".weight");
    const ParameterSpec& local = find(specs, attention + projection + ".weight");
    CHECK(weight.shape == std::vector<index_t>{128, 128});
    CHECK(weight.split);
    CHECK(weight.decay);
    CHECK(weight.units == std::vector<index_t>{2});
    // The same numbers to begin with.
    std::vector<float> values(128 * 64);
    std::vector<float> local_values(128 * 64);
    initial_weights(weight, 1, slice_of(weight, 1, 2), values);
    initial_weights(local, 1, slice_of(local, 1, 2), local_values);
    CHECK(values == local_values);
  }
  const ParameterSpec& bias = find(specs, attention + "global_query.bias");
  CHECK(bias.split);
  CHECK(!bias.decay);
  CHECK(bias.shape == std::vector<index_t>{128});
  find(specs, attention + "global_value.bias");

  config.globals = GlobalForm::split;
  specs = parameter_specs(config);
  CHECK(specs.size() == shared + 2 * 7);
  std::vector<float> values(128 * 128);
  std::vector<float> local_values(128 * 128);
  const ParameterSpec& query = find(specs, attention + "global_query.weight");
  initial_weights(query, 1, slice_of(query, 0, 1), values);
  initial_weights(find(specs, attention + "query.weight"), 1, slice_of(query, 0, 1), local_values);
  CHECK(values != local_values);
  const ParameterSpec& output = find(specs, attention + "global_output.weight");
  CHECK(output.split);
  CHECK(output.decay);
  CHECK(output.deviation == find(specs, attention + "output.weight").deviation);
  CHECK(!find(specs, attention + "global_output.bias").split);
}

TEST_CASE("parameters: a classifier has classes in place of a vocabulary to predict") {
  ModelConfig config;
  config.task = Task::classifier;
  config.classes = 10;
  const std::vector<ParameterSpec> specs = parameter_specs(config);
  CHECK(find(specs, "embedding.weight").units == std::vector<index_t>{0});
  CHECK(!find(specs, "embedding.weight").decay);
  CHECK(find(specs, "classifier.weight").shape == std::vector<index_t>{10, 128});
  CHECK(find(specs, "classifier.bias").shape == std::vector<index_t>{10});
}

TEST_CASE("positions of global tokens are read as written, and nothing else is") {
  const auto read = [](const char* words) {
    const auto positions = parse_globals(words);
    return std::vector<index_t>(positions.positions().begin(), positions.positions().end());
  };
  CHECK(read("none").empty());
  CHECK(read("7") == std::vector<index_t>{7});
  CHECK(read("0-3,512") == std::vector<index_t>{0, 1, 2, 3, 512});
  CHECK(read("9,2-3,3") == std::vector<index_t>{2, 3, 9});
  for (const char* words : {"", ",", "0-3,", "3-1", "-1", "1-", "a", "1,,2", "0 - 3", "99999999"}) {
    CAPTURE(words);
    CHECK_THROWS_WITH_AS(parse_globals(words), doctest::Contains("0-3,512"), UsageError);
  }
  for (const char* words : {"none", "0", "0-3", "0-3,512", "1,3,5-6"}) {
    CHECK(text_of(parse_globals(words)) == words);
  }
  CHECK(text_of(parse_globals("3,0,2,1")) == "0-3");
}

TEST_CASE("query, key and value of any shard are one matrix in its arena, and one vector") {
  ModelConfig config;
  for (const index_t shards : {1, 2, 4}) {
    const Layout layout = {.stages = 2, .shards = shards};
    const BucketPlan plan(parameter_specs(config), {0, 0, 0, 1, 1, 1}, layout, 1 << 16);
    for (index_t shard = 0; shard < shards; ++shard) {
      const HeldParameters parameters(config, plan.holding({.stage = 1, .shard = shard}));
      const std::string attention = "layers.3.attention.";
      const HeldMatrix all = parameters.matrices(
          {attention + "query.weight", attention + "key.weight", attention + "value.weight"});
      CHECK(all.rows == 3 * 128 / shards);
      CHECK(all.offset == parameters.matrix(attention + "query.weight").offset);
      CHECK(
          parameters
              .vectors({attention + "query.bias", attention + "key.bias", attention + "value.bias"})
              .size == 3 * 128 / shards);
      CHECK(parameters.first_row("embedding.weight") == shard * 256 / shards);
    }
  }
}
