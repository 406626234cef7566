#include "worker/models/transformer/description.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace weir;
using namespace weir::worker;

namespace {

using Value = std::variant<std::string, index_t, double>;

/// Nothing where the description does not have the name.
std::optional<Value> value_of(const std::vector<Attribute>& all, const std::string& name) {
  const auto found = std::ranges::find(all, name, &Attribute::name);
  return found == all.end() ? std::nullopt : std::optional(found->value);
}

}  // namespace

TEST_CASE("a language model's description has all that its function follows from, nothing else") {
  ModelConfig config;
  config.global_tokens = "0,1,2,9";
  const auto all = description(config);
  CHECK(value_of(all, "model.task") == Value("language"));
  CHECK(value_of(all, "model.heads") == Value(index_t{4}));
  CHECK(value_of(all, "model.vocabulary") == Value(index_t{256}));
  CHECK(value_of(all, "model.positions") == Value("rotary"));
  CHECK(value_of(all, "model.tied") == Value(index_t{1}));
  CHECK(value_of(all, "attention.left") == Value(index_t{64}));
  CHECK(value_of(all, "attention.right") == Value(index_t{0}));
  CHECK(value_of(all, "attention.causal") == Value(index_t{1}));
  CHECK(value_of(all, "attention.global-tokens") == Value("0-2,9"));
  CHECK(value_of(all, "attention.globals") == Value("shared"));
  CHECK(value_of(all, "norm.epsilon") == Value(1e-5));
  CHECK(value_of(all, "gelu") == Value("tanh"));
  CHECK(value_of(all, "rotary.base") == Value(10000.0));
  CHECK(value_of(all, "rotary.pairing") == Value("halves"));
  for (const char* name : {"model.dropout", "model.deviation", "model.pooling", "model.classes",
                           "attention.global-heads"}) {
    CAPTURE(name);
    CHECK_FALSE(value_of(all, name));
  }
}

TEST_CASE("a classifier's description has its pooling and its classes, and no rotation it lacks") {
  ModelConfig config;
  config.task = Task::classifier;
  config.classes = 10;
  config.pooling = Pooling::ends;
  config.positions = Positions::learned;
  config.globals = GlobalForm::split;
  const auto all = description(config);
  CHECK(value_of(all, "model.pooling") == Value("ends"));
  CHECK(value_of(all, "model.classes") == Value(index_t{10}));
  CHECK(value_of(all, "attention.global-heads") == Value(index_t{4}));
  CHECK(value_of(all, "attention.causal") == Value(index_t{0}));
  CHECK_FALSE(value_of(all, "model.tied"));
  CHECK_FALSE(value_of(all, "rotary.base"));
}

TEST_CASE("the layout tells matrices that are stored the other way round") {
  ModelConfig config;
  config.globals = GlobalForm::split;
  config.positions = Positions::learned;
  config.tied = false;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    CAPTURE(spec.name);
    const bool takes_slices = spec.name.ends_with("attention.output.weight") ||
                              spec.name.ends_with("attention.global_output.weight") ||
                              spec.name.ends_with("feed_forward.down.weight");
    if (spec.shape.size() == 1) {
      CHECK(spec.layout == "[features]");
    } else if (spec.name == "embedding.weight") {
      CHECK(spec.layout == "[tokens, features]");
    } else if (spec.name == "positions.weight") {
      CHECK(spec.layout == "[positions, features]");
    } else {
      CHECK(spec.layout == (takes_slices ? "[inputs, outputs]" : "[outputs, inputs]"));
    }
  }
}
