#include "launch/generate.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/error.hpp"
#include "common/base/safe_text.hpp"
#include "tests/launch/checkpoints.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/worker/models/twin.hpp"

namespace weir::test::generate_test {
namespace {

struct Trained {
  TemporaryFolder folder;
  RunConfig config = tiny_language("gone.txt");  // data are not read
  Arrays parameters;
  std::string path;

  explicit Trained(worker::Positions positions = worker::Positions::rotary) {
    config.model.positions = positions;
    config.model.dropout = 0.5;
    parameters = random_parameters(config);
    path = write_checkpoint(folder.path(), 3, config, parameters).string();
  }
};

/// The prompt and, `count` times, the greatest logit after the last `length` tokens, in double.
std::string likeliest(const Trained& trained, const std::string& prompt, index_t count,
                      index_t length) {
  Twin::Parameters values;
  for (const auto& [name, array] : trained.parameters) {
    values[name].assign(array.begin(), array.end());
  }
  const Twin twin(trained.config.model, values);
  std::vector<std::int32_t> tokens;
  for (const char byte : prompt) tokens.push_back(static_cast<unsigned char>(byte));
  for (index_t i = 0; i < count; ++i) {
    BatchData batch;
    batch.length = std::min(length, std::ssize(tokens));
    batch.tokens.assign(tokens.end() - batch.length, tokens.end());
    batch.lengths = {batch.length};
    batch.samples = {0};
    const auto logits = twin.logits(batch.view(), 0).back();
    tokens.push_back(static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin()));
  }
  SafeText text;
  std::string shown;
  for (const std::int32_t token : tokens) shown += text.add(static_cast<std::uint8_t>(token));
  return shown + text.end() + "\n";
}

TEST_CASE("temperature 0: each byte is the likeliest after the last `length` ones") {
  for (const auto positions : {worker::Positions::rotary, worker::Positions::learned}) {
    const Trained trained(positions);
    // From 9 tokens of 24 over the rim of the window.
    CHECK(output_of(generate, {trained.path, "--prompt=The weir ", "--bytes=40",
                               "--temperature=0"}) == likeliest(trained, "The weir ", 40, 24));
  }
}

TEST_CASE("a prompt longer than the window counts with its end; rotary windows may be longer") {
  const Trained trained;
  const std::string prompt = "Of all the rivers of the country this one has the most weirs";
  CHECK(output_of(generate, {trained.path, "--prompt", prompt, "--bytes=5", "--temperature=0"}) ==
        likeliest(trained, prompt, 5, 24));
  CHECK(output_of(generate, {trained.path, "--prompt", prompt, "--bytes=5", "--temperature=0",
                             "--length=50"}) == likeliest(trained, prompt, 5, 50));
}

TEST_CASE("the same seed gives the same text, another seed another, and more bytes go on with it") {
  const Trained trained;
  const auto text = [&](const char* seed, const char* bytes) {
    return output_of(generate, {trained.path, "--prompt=a", "--seed", seed, "--bytes", bytes});
  };
  const std::string once = text("5", "30");
  CHECK(text("5", "30") == once);
  CHECK(text("6", "30") != once);
  const std::string longer = text("5", "50");
  CHECK(longer.size() > once.size());
  CHECK(longer.substr(0, 20) == once.substr(0, 20));
}

TEST_CASE("without a prompt a text begins as a line does; without bytes only the prompt is shown") {
  const Trained trained;
  const std::string out = output_of(generate, {trained.path, "--bytes=9", "--temperature=0"});
  CHECK("\n" + out == likeliest(trained, "\n", 9, 24));
  CHECK(output_of(generate, {trained.path, "--bytes=0", "--prompt=a\x80"}) == "a\\x80\n");
}

TEST_CASE("tokens come as often as softmax(logits / temperature) says") {
  const std::vector<float> logits = {1.5F, -2, 0.25F, 1.5F, 3};
  for (const index_t top_k : {0, 1, 2, 4, 5}) {
    CAPTURE(top_k);
    const double temperature = 0.7;
    // 4, 0, 3, 2, 1 from the greatest on.
    std::vector<double> truth(5);
    const std::vector<std::size_t> order = {4, 0, 3, 2, 1};
    double sum = 0;
    for (std::size_t at = 0; at < (top_k == 0 ? 5 : static_cast<std::size_t>(top_k)); ++at) {
      sum += truth[order[at]] = std::exp(double{logits[order[at]]} / temperature);
    }
    constexpr int kDraws = 10000;
    std::vector<double> found(5);
    for (int i = 0; i < kDraws; ++i) {
      found[choose_token(logits, temperature, top_k, (i + 0.5) / kDraws)] += 1.0 / kDraws;
    }
    for (std::size_t token = 0; token < 5; ++token) {
      CAPTURE(token);
      CHECK(std::abs(found[token] - truth[token] / sum) < 1.5 / kDraws);
    }
  }
}

TEST_CASE("temperature 0 takes the greatest logit, the first of equals, whatever the draw") {
  CHECK(choose_token(std::vector<float>{1, 3, 3, 2}, 0, 0, 0.999) == 1);
  CHECK(choose_token(std::vector<float>{1, 3, 3, 2}, 1e-30, 1, 0.5) == 1);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, std::nanf("")}) {
    CHECK_THROWS_WITH_AS(choose_token(std::vector<float>{1, bad}, 0, 0, 0),
                         doctest::Contains("the model's output is not finite"), Error);
  }
}

TEST_CASE("generate refuses what it cannot continue") {
  const Trained trained;
  const auto refuses = [](const Arguments& arguments, const char* words) {
    CAPTURE(words);
    CHECK_THROWS_WITH_AS(generate(arguments), doctest::Contains(words), UsageError);
  };
  refuses({}, "generate: name a checkpoint or a run folder");
  refuses({trained.path, "Once"}, "generate takes one path, and here are ");
  refuses({trained.path, "--temprature=1"}, "did you mean --temperature?");
  refuses({trained.path, "--temperature=-1"}, "expected a number 0..100");
  RunConfig config = tiny_language("");
  config.model.task = worker::Task::classifier;
  config.data.kind = worker::DataKind::listops;
  fit_model_to_data(config);
  const TemporaryFolder folder;
  refuses({write_checkpoint(folder.path(), 1, config, random_parameters(config)).string()},
          "holds a classifier, which cannot continue a text");
}

}  // namespace

}  // namespace weir::test::generate_test
