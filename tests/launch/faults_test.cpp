#include "launch/faults.hpp"

#include <doctest/doctest.h>

using namespace weir;
using namespace weir::worker;

namespace {

/// Sample c: the tokens c, c + 1 …
class Counting final : public Dataset {
 public:
  index_t vocabulary() const override { return 256; }
  index_t classes() const override { return 0; }
  index_t sample_length() const override { return 32; }
  index_t epoch_size() const override { return 1000; }
  void training_sample(index_t cursor, Sample& sample) const override {
    for (index_t i = 0; i < 32; ++i) {
      sample.tokens[static_cast<std::size_t>(i)] = static_cast<std::int32_t>((cursor + i) % 256);
      sample.targets[static_cast<std::size_t>(i)] =
          i < 4 ? -1 : static_cast<std::int32_t>((cursor + i + 1) % 256);
    }
    sample.length = 32;
  }
  index_t validation_size() const override { return 0; }
  void validation_sample(index_t, Sample&) const override {}
  std::string describe() const override { return ""; }
};

}  // namespace

TEST_CASE("bad steps have other targets for the same tokens, all other steps none") {
  const Injection injection = parse_injection("bad=10%:30x");
  CHECK(injection.bad_factor == 30);
  constexpr index_t kBatch = 4;
  const FaultyDataset faulty(std::make_unique<Counting>(), injection, kBatch, 7);
  const Counting clean;
  std::vector<std::int32_t> tokens(32), targets(32), expected_tokens(32), expected(32);
  index_t bad = 0;
  for (index_t step = 1; step <= 1100; ++step) {
    const bool is_bad = is_bad_step(injection, step, 7);
    if (step < 100) CHECK(!is_bad);
    bad += is_bad ? 1 : 0;
    for (index_t sample = 0; sample < kBatch; ++sample) {
      Sample one = {.tokens = tokens, .targets = targets};
      Sample other = {.tokens = expected_tokens, .targets = expected};
      const index_t cursor = (step - 1) * kBatch + sample;
      faulty.training_sample(cursor, one);
      clean.training_sample(cursor, other);
      CHECK(tokens == expected_tokens);
      CHECK((targets == expected) == !is_bad);
      for (std::size_t i = 0; i < 32; ++i) {
        CHECK((targets[i] == -1) == (i < 4));
        CHECK(targets[i] < 256);
      }
    }
  }
  CHECK(bad > 70);  // 100 +- 9.5
  CHECK(bad < 130);
}
