#include "ps/clip.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "common/base/error.hpp"

using namespace weir;
using namespace weir::ps;

TEST_CASE("decay: the threshold falls before it clips and never rises above 1 (worked by hand)") {
  struct Row {
    double norm, threshold, coefficient;
    bool clipped;
  };
  // Rate 0.5, so that every number is exact.
  const std::vector<Row> rows = {
      {0.75, 1, 1, false},       // below: min(1, 1 / 0.5)
      {1, 1, 1, false},          // equal is not above
      {2, 0.5, 0.25, true},      // 1 -> 0.5, clipped to the 0.5
      {0.625, 0.25, 0.4, true},  // 0.5 -> 0.25
      {0.25, 0.5, 1, false},     // equal to the threshold: rises
      {0.5, 1, 1, false},       {0, 1, 1, false}, {4, 0.5, 0.125, true},
  };
  ClipConfig config;
  config.fall_rate = 0.5;
  Clip clip(config);
  CHECK(clip.threshold() == 1);
  for (const Row& row : rows) {
    CAPTURE(row.norm);
    const ClipDecision decision = clip.decide(row.norm);
    CHECK(decision.threshold == row.threshold);
    CHECK(decision.coefficient == row.coefficient);
    CHECK(decision.clipped == row.clipped);
    CHECK(clip.threshold() == row.threshold);
  }
}

TEST_CASE("decay starts at 1 with rate 0.99 and falls without end under norms that stay above") {
  const ClipConfig config;
  CHECK(config.policy == ClipPolicy::decay);
  CHECK(config.initial == 1);
  CHECK(config.fall_rate == 0.99);
  Clip clip(config);
  for (int step = 1; step <= 459; ++step) {
    const ClipDecision decision = clip.decide(3);
    CHECK(decision.coefficient * 3 == doctest::Approx(std::pow(0.99, step)).epsilon(1e-12));
  }
  CHECK(clip.threshold() < 0.01);
}

TEST_CASE("fixed clips to its norm, none never clips") {
  ClipConfig config;
  config.policy = ClipPolicy::fixed;
  config.max_norm = 2;
  Clip fixed(config);
  CHECK(fixed.decide(2).coefficient == 1);
  CHECK(fixed.decide(8).coefficient == 0.25);
  CHECK(fixed.decide(8).threshold == 2);
  CHECK(fixed.decide(8).clipped);
  CHECK(fixed.state().empty());
  config.policy = ClipPolicy::none;
  Clip none(config);
  CHECK(none.decide(1e30).coefficient == 1);
  CHECK(none.decide(1e30).threshold == 0);
}

TEST_CASE("a restored clip goes on to the bit") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::lognormal_distribution<double> norms(0, 1);
  Clip whole{ClipConfig()};
  for (int step = 0; step < 300; ++step) whole.decide(norms(random));
  Clip resumed{ClipConfig()};
  resumed.restore(whole.state());
  for (int step = 0; step < 300; ++step) {
    const double norm = norms(random);
    CHECK(resumed.decide(norm).coefficient == whole.decide(norm).coefficient);
    CHECK(resumed.threshold() == whole.threshold());
  }
}

TEST_CASE("numbers that are no state of the policy are refused") {
  Clip clip{ClipConfig()};
  CHECK_THROWS_AS(clip.restore(std::vector<double>{}), Error);
  CHECK_THROWS_AS(clip.restore(std::vector<double>{0.5, 0.5}), Error);
  CHECK_THROWS_AS(clip.restore(std::vector<double>{std::nan("")}), Error);
  CHECK_THROWS_AS(clip.restore(std::vector<double>{-1.0}), Error);
  CHECK_THROWS_AS(clip.restore(std::vector<double>{2.0}), Error);
  CHECK(clip.threshold() == 1);
}
