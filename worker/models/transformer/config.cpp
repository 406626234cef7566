#include "worker/models/transformer/config.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "common/base/error.hpp"

namespace weir::worker {

namespace {
constexpr index_t kLengthMax = 1 << 24;  ///< tokens of a sequence
}

std::vector<Option> options(ModelConfig& config) {
  const Range size = {1, 1 << 20};
  const bool splits = config.globals == GlobalForm::split;
  return {
      {"model.task",
       "",
       "what the model learns: the next token, or the class of a sequence",
       choice(config.task, {{"language", Task::language}, {"classifier", Task::classifier}}),
       {},
       Scope::function},
      {"model.layers", "", "Transformer blocks", &config.layers, {1, 10000}, Scope::function},
      {"model.width", "", "features of a token between layers", &config.width, size,
       Scope::function},
      {"model.heads", "", "attention heads; --model.width is a multiple of it", &config.heads, size,
       Scope::function},
      {"model.feed-forward", "", "features inside the feed-forward layers", &config.feed_forward,
       size, Scope::function},
      {"model.positions",
       "",
       "rotary: queries and keys are rotated by position; learned: each position has a vector",
       choice(config.positions, {{"rotary", Positions::rotary}, {"learned", Positions::learned}}),
       {},
       Scope::function},
      {"model.tied",
       "",
       "a language model uses its input embedding for its output, too",
       &config.tied,
       {},
       Scope::function},
      {"model.pooling",
       "",
       "what a classifier reads: mean: the mean of all tokens; ends: the first token that is not "
       "global, beside the last",
       choice(config.pooling, {{"mean", Pooling::mean}, {"ends", Pooling::ends}}),
       {},
       Scope::function},
      {"model.dropout",
       "",
       "share of features dropped after the embedding, attention and feed-forward",
       &config.dropout,
       {0, 0.99}},
      {"model.deviation",
       "",
       "standard deviation of the initial weights; a narrow model learns sooner with a larger one",
       &config.deviation,
       {1e-6, 1}},
      {"attention.left",
       "tokens",
       "number of tokens before itself that a token sees",
       &config.left,
       {0, 1 << 24},
       Scope::function},
      {"attention.right",
       "tokens",
       "number of tokens after itself that a token sees; 0 in a language model",
       &config.right,
       {0, 1 << 24},
       Scope::function},
      {"attention.global-tokens",
       "",
       "positions of tokens that all tokens see and, in a classifier, that see all tokens, like "
       "0-3,512; or none",
       &config.global_tokens,
       {},
       Scope::function},
      {"attention.globals",
       "",
       "shared: global tokens use the projections of all tokens; separate: they have queries, keys "
       "and values of their own; split: local and global tokens attend apart",
       choice(config.globals, {{"shared", GlobalForm::shared},
                               {"separate", GlobalForm::separate},
                               {"split", GlobalForm::split}}),
       {},
       Scope::function},
      {"attention.global-heads", "",
       "heads of the global tokens' attention, with --attention.globals split",
       &config.global_heads, size, splits ? Scope::function : Scope::run},
  };
}

Globals parse_globals(const std::string& words) {
  if (words == "none") return {};
  const auto fail = [&](std::string_view what) -> UsageError {
    return UsageError(text("--attention.global-tokens ", words, ": ", what,
                           "; write positions and runs of them like 0-3,512, or none"));
  };
  if (words.ends_with(',')) throw fail("a position is missing after the last comma");
  std::vector<index_t> positions;
  std::istringstream parts(words);
  for (std::string part; std::getline(parts, part, ',');) {
    const auto position = [&](std::string_view digits) {
      index_t value = 0;
      const char* const end = digits.data() + digits.size();
      const auto [stop, error] = std::from_chars(digits.data(), end, value);
      if (error != std::errc() || stop != end || value < 0 || value >= kLengthMax) {
        throw fail(text("'", part, "' is no position"));
      }
      return value;
    };
    const std::size_t dash = part.find('-');
    const std::string_view whole = part;
    const index_t first = position(whole.substr(0, dash));
    const index_t last = dash == std::string::npos ? first : position(whole.substr(dash + 1));
    if (last < first) throw fail(text("'", part, "' runs backwards"));
    for (index_t each = first; each <= last; ++each) positions.push_back(each);
  }
  if (positions.empty()) throw fail("no position");
  return Globals(std::move(positions));
}

std::string text_of(const Globals& globals) {
  if (globals.count() == 0) return "none";
  const std::span<const index_t> positions = globals.positions();
  std::string words;
  for (std::size_t first = 0; first < positions.size();) {
    std::size_t last = first;
    while (last + 1 < positions.size() && positions[last + 1] == positions[last] + 1) ++last;
    words += text(words.empty() ? "" : ",", positions[first]);
    if (last > first) words += text("-", positions[last]);
    first = last + 1;
  }
  return words;
}

Sparsity ModelConfig::sparsity() const {
  return {left, right, parse_globals(global_tokens), task == Task::language, globals};
}

void fit(ModelConfig& config, const DataShape& data) {
  const bool language = config.task == Task::language;
  const ColumnShape* const tokens = data.find("tokens");
  const ColumnShape* const truth = data.find(language ? "targets" : "labels");
  if (tokens == nullptr) {
    throw UsageError("--data.kind: these data are no sequences of tokens, which this model reads");
  }
  if (truth == nullptr && language) {
    throw UsageError(
        "--data.kind: these data ask for the class of a sequence; take --model.task classifier");
  }
  if (truth == nullptr) {
    throw UsageError(
        "--data.kind: these data have no classes to learn; take --model.task language");
  }
  config.length = data.length;
  config.vocabulary = tokens->values;
  config.classes = language ? 0 : truth->values;
}

index_t fewest_tokens(const ModelConfig& config, index_t contexts) {
  return contexts > 1 ? std::max<index_t>({config.left, config.right, 1}) : 1;
}

namespace {

/// "take --name 8 or 12": the neighbours of value that divisor divides.
std::string nearest_multiples(const char* name, index_t value, index_t divisor) {
  const index_t below = value / divisor * divisor;
  const std::string above = text(below + divisor);
  return text("take --", name, " ", below > 0 ? text(below, " or ", above) : above);
}

void check_divides(const char* name, index_t value, const char* divisor_name, index_t divisor) {
  if (value % divisor == 0) return;
  throw UsageError(text("--", name, " ", value, " is not a multiple of --", divisor_name, " ",
                        divisor, "; ", nearest_multiples(name, value, divisor)));
}

void check_globals(const ModelConfig& config, const Layout& layout) {
  const Globals globals = parse_globals(config.global_tokens);
  if (globals.count() > 0 && globals.positions().back() >= config.length) {
    throw UsageError(text("--attention.global-tokens ", config.global_tokens, ": position ",
                          globals.positions().back(), " lies beyond --length ", config.length,
                          "; the largest that fits is ", config.length - 1));
  }
  if (config.globals == GlobalForm::shared) return;
  if (globals.count() == 0) {
    throw UsageError(text("--attention.globals ",
                          config.globals == GlobalForm::split ? "split" : "separate",
                          " is for global tokens, but --attention.global-tokens is none; take "
                          "--attention.global-tokens 0, or --attention.globals shared"));
  }
  if (config.globals == GlobalForm::split) {
    check_divides("model.width", config.width, "attention.global-heads", config.global_heads);
    check_divides("attention.global-heads", config.global_heads, "shards", layout.shards);
  }
}

}  // namespace

void check(const ModelConfig& config, const Layout& layout) {
  if (config.positions == Positions::learned && config.length > config.position_count()) {
    throw UsageError(text("--length ", config.length, ": the checkpoint has learned ",
                          config.learned_positions,
                          " positions, and a token behind them has none; take --length ",
                          config.learned_positions, " or less"));
  }
  check_divides("model.width", config.width, "model.heads", config.heads);
  if (config.positions == Positions::rotary && config.head_size() % 2 != 0) {
    throw UsageError(text("--model.width ", config.width, " / --model.heads ", config.heads,
                          " makes heads of ", config.head_size(),
                          " features, but rotary positions need an even number; ",
                          nearest_multiples("model.width", config.width, 2 * config.heads),
                          ", or --model.positions learned"));
  }
  check_divides("model.heads", config.heads, "shards", layout.shards);
  check_divides("model.feed-forward", config.feed_forward, "shards", layout.shards);
  if (config.layers < layout.stages) {
    throw UsageError(text("--model.layers ", config.layers, " cannot fill --stages ", layout.stages,
                          ": each stage needs a layer of its own; take --stages ", config.layers,
                          " or --model.layers ", layout.stages));
  }
  const index_t fewest = fewest_tokens(config, layout.contexts);
  if (config.length < layout.contexts * fewest) {
    throw UsageError(text("--contexts ", layout.contexts, " cuts --length ", config.length,
                          " into parts of ", config.length / layout.contexts,
                          " tokens, but each must hold at least ", fewest,
                          " (the larger of --attention.left and --attention.right, or 1); take "
                          "--contexts ",
                          std::max<index_t>(config.length / fewest, 1), " at most, or --length ",
                          layout.contexts * fewest, " or more"));
  }
  if (config.task == Task::language && config.right > 0) {
    throw UsageError(text("--attention.right ", config.right,
                          " lets a language model see the tokens that it is to predict; take "
                          "--attention.right 0, or --model.task classifier"));
  }
  check_globals(config, layout);
}

namespace {

/// Lists the parameters of one unit after another.
struct Lister {
  std::vector<ParameterSpec> specs;
  std::vector<index_t> units;

  ParameterSpec& add(const std::string& name, std::vector<index_t> shape, bool split) {
    ParameterSpec spec;
    spec.name = name;
    spec.shape = std::move(shape);
    spec.layout = spec.shape.size() == 1 ? "[features]" : "[outputs, inputs]";
    spec.split = split;
    spec.units = units;
    return specs.emplace_back(std::move(spec));
  }
  ParameterSpec& matrix(const std::string& name, index_t rows, index_t columns, bool split,
                        double deviation) {
    ParameterSpec& spec = add(name, {rows, columns}, split);
    spec.initial = Initial::normal;
    spec.deviation = deviation;
    spec.decay = true;
    return spec;
  }
  /// A matrix of which shards hold inputs: rows, so that a slice is one range.
  void input_split(const std::string& name, index_t inputs, index_t outputs, double deviation) {
    matrix(name, inputs, outputs, true, deviation).layout = "[inputs, outputs]";
  }
  /// A table, of which no product is made and which does not decay.
  ParameterSpec& table(const std::string& name, index_t rows, const std::string& what,
                       index_t width, bool split, double deviation) {
    ParameterSpec& spec = matrix(name, rows, width, split, deviation);
    spec.layout = text("[", what, ", features]");
    spec.decay = false;
    return spec;
  }
  void bias(const std::string& name, index_t size, bool split) { add(name, {size}, split); }
  void norm(const std::string& name, index_t width) {
    add(name + ".weight", {width}, false).initial = Initial::ones;
    bias(name + ".bias", width, false);
  }
};

/// The global projections of the form `separate` start as copies of the local ones: Beltagy et al.,
/// section 3.1. A key has no bias; layers/global_branch.hpp says why.
void list_global_branch(const ModelConfig& config, const std::string& attention,
                        double residual_deviation, Lister& list) {
  if (config.globals == GlobalForm::shared) return;
  const bool split = config.globals == GlobalForm::split;
  const index_t width = config.width;
  for (const std::string projection : {"query", "key", "value"}) {
    const std::string name = attention + "global_" + projection;
    ParameterSpec& weight = list.matrix(name + ".weight", width, width, true, config.deviation);
    if (!split) weight.like = attention + projection + ".weight";
    if (projection != "key") list.bias(name + ".bias", width, true);
  }
  if (!split) return;
  list.input_split(attention + "global_output.weight", width, width, residual_deviation);
  list.bias(attention + "global_output.bias", width, false);
}

void list_block(const ModelConfig& config, index_t layer, Lister& list) {
  const std::string block = text("layers.", layer, ".");
  const index_t width = config.width;
  // Each block adds to the residual twice: so its variance does not grow with the depth.
  const double residual_deviation = config.deviation / std::sqrt(2.0 * double(config.layers));
  list.norm(block + "attention_norm", width);
  // Weights, then biases: neighbours in a holder's arena, read there as one [3 d / T, d] matrix.
  const char* const projections[] = {"query", "key", "value"};
  for (const char* projection : projections) {
    list.matrix(block + "attention." + projection + ".weight", width, width, true,
                config.deviation);
  }
  for (const std::string projection : projections) {
    if (projection == "key" && !config.has_key_bias()) continue;
    list.bias(block + "attention." + projection + ".bias", width, true);
  }
  list.input_split(block + "attention.output.weight", width, width, residual_deviation);
  list.bias(block + "attention.output.bias", width, false);
  list_global_branch(config, block + "attention.", residual_deviation, list);
  list.norm(block + "feed_forward_norm", width);
  list.matrix(block + "feed_forward.up.weight", config.feed_forward, width, true, config.deviation);
  list.bias(block + "feed_forward.up.bias", config.feed_forward, true);
  list.input_split(block + "feed_forward.down.weight", config.feed_forward, width,
                   residual_deviation);
  list.bias(block + "feed_forward.down.bias", width, false);
}

}  // namespace

std::vector<ParameterSpec> parameter_specs(const ModelConfig& config) {
  const bool language = config.task == Task::language;
  const bool tied = language && config.tied;
  const index_t head = config.layers + 1;
  Lister list;

  list.units = tied ? std::vector<index_t>{0, head} : std::vector<index_t>{0};
  list.table("embedding.weight", config.vocabulary, "tokens", config.width, true, config.deviation)
      .decay = tied;  // then it is a matrix of a product as well
  list.units = {0};
  if (config.positions == Positions::learned) {
    list.table("positions.weight", config.position_count(), "positions", config.width, false,
               config.deviation);
  }
  for (index_t layer = 0; layer < config.layers; ++layer) {
    list.units = {layer + 1};
    list_block(config, layer, list);
  }
  list.units = {head};
  list.norm("final_norm", config.width);
  if (!language) {
    list.matrix("classifier.weight", config.classes, config.pooled_width(), false,
                config.deviation);
    list.bias("classifier.bias", config.classes, false);
  } else if (!tied) {
    list.matrix("output.weight", config.vocabulary, config.width, true, config.deviation);
  }
  return std::move(list.specs);
}

std::vector<std::string> obsolete_parameters(const ModelConfig& config) {
  std::vector<std::string> names;
  for (index_t layer = 0; layer < config.layers && !config.has_key_bias(); ++layer) {
    names.push_back(text("layers.", layer, ".attention.key.bias"));
  }
  return names;
}

}  // namespace weir::worker
