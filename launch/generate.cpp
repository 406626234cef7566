#include "launch/generate.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/safe_text.hpp"
#include "common/number/random.hpp"
#include "launch/checkpoint_path.hpp"
#include "launch/command.hpp"
#include "launch/trained_model.hpp"
#include "worker/kernels/cpu/blas.hpp"

namespace weir {
namespace {

struct GenerateConfig {
  std::string prompt;
  index_t bytes = 400;
  double temperature = 0.8;
  index_t top_k = 0;
  index_t seed = 1;
};

std::vector<Option> generate_options(RunConfig& config, GenerateConfig& own) {
  std::vector<Option> table = {
      {"prompt", "", "text to continue; empty: the beginning of a line", &own.prompt},
      {"bytes", "bytes", "number of bytes to generate", &own.bytes, {0, 1e12}},
      {"temperature",
       "",
       "below 1 favours likely bytes even more; 0: always the likeliest",
       &own.temperature,
       {0, 100}},
      {"top-k", "", "choose among this number of likeliest bytes; 0: all", &own.top_k, {0, 256}},
      {"seed", "", "seed of the draws: the same seed gives the same text", &own.seed, {0, 1e15}},
  };
  for (const Option& option : chosen_options(config, {"length", "threads", "products"})) {
    table.push_back(option);
  }
  return table;
}

/// Prints `own.bytes` bytes after the tokens, each as soon as it is known.
void print_continuation(worker::Scorer& model, const GenerateConfig& own,
                        std::vector<std::int32_t> tokens, SafeText& shown) {
  const index_t window = model.config().length;
  const std::uint64_t stream = stream_of("generate");
  std::vector<float> logits(model.config().vocabulary);
  for (index_t index = 0; index < own.bytes && std::cout; ++index) {
    // The whole window is computed anew for each byte, because the positions of all its tokens have
    // moved.
    model.next_token_logits(std::span(tokens).last(std::min(window, std::ssize(tokens))), logits);
    const index_t token = choose_token(
        logits, own.temperature, own.top_k,
        uniform(static_cast<std::uint64_t>(own.seed), stream, static_cast<std::uint64_t>(index)));
    tokens.push_back(static_cast<std::int32_t>(token));
    std::cout << shown.add(static_cast<std::uint8_t>(token)) << std::flush;
  }
}

}  // namespace

index_t choose_token(std::span<const float> logits, double temperature, index_t top_k,
                     double draw) {
  if (!std::ranges::all_of(logits, [](float logit) { return std::isfinite(logit); })) {
    throw Error("the model's output is not finite; take a checkpoint from before it diverged");
  }
  std::vector<index_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](index_t token) { return logits[token]; };
  std::ranges::stable_sort(order, std::ranges::greater(), logit);
  if (temperature == 0) return order.front();
  if (top_k > 0 && top_k < std::ssize(order)) {
    order.resize(top_k);
  }
  std::vector<double> weights;
  for (const index_t token : order) {
    weights.push_back(std::exp((double{logit(token)} - logit(order.front())) / temperature));
  }
  double left = draw * std::accumulate(weights.begin(), weights.end(), 0.0);
  for (std::size_t at = 0; at + 1 < order.size(); ++at) {
    if (left < weights[at]) return order[at];
    left -= weights[at];
  }
  return order.back();
}

int generate(const Arguments& all) {
  Arguments arguments = all;
  RunConfig config;
  GenerateConfig own;
  if (asks_for_help(arguments)) {
    std::cout << help_of_command(
        "generate", "CHECKPOINT|RUN [options]",
        "Prints a text and its continuation by a language model, byte by byte. RUN stands for its\n"
        "newest complete checkpoint. The model sees the last --length bytes. Control characters\n"
        "and bytes that are not UTF-8 are shown like \\x1b.",
        generate_options(config, own));
    return 0;
  }
  const fs::path folder = checkpoint_at(take_path("generate", "a checkpoint or a run folder",
                                                  generate_options(config, own), arguments));
  const CheckpointReader reader(folder);
  config = config_of(reader);
  if (config.model.task != worker::Task::language) {
    throw UsageError(
        text("generate: ", folder.string(),
             " holds a classifier, which cannot continue a text; weir eval scores it"));
  }
  parse_overrides(generate_options(config, own), weir_environment(), arguments);
  config.train.training.micro_batch = 1;
  set_blas_threads(static_cast<int>(config.threads));
  worker::Scorer model = scorer_of(reader, config);

  std::vector<std::int32_t> tokens;
  SafeText shown;
  for (const char byte : own.prompt) {
    tokens.push_back(static_cast<unsigned char>(byte));
    std::cout << shown.add(static_cast<std::uint8_t>(byte));
  }
  std::cout << std::flush;
  if (tokens.empty()) tokens.push_back('\n');  // the model sees it, the user does not
  print_continuation(model, own, std::move(tokens), shown);
  std::cout << shown.end() << '\n' << std::flush;
  return 0;
}

}  // namespace weir
