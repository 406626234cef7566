#include "ps/decide/clip.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "common/base/error.hpp"

using namespace weir;
using namespace weir::ps;

namespace {

std::unique_ptr<Clip> clip_of(ClipPolicy policy, double max_norm = 1) {
  ClipConfig config;
  config.policy = policy;
  config.max_norm = max_norm;
  return make_clip(config, 3);
}

/// Three parameters that share the norm evenly.
ClipDecision decide(Clip& clip, double norm) {
  const std::vector<double> parameters(3, norm / std::sqrt(3.0));
  return clip.decide({norm, parameters});
}

const std::vector<ClipPolicy> kAll = {ClipPolicy::none,      ClipPolicy::fixed, ClipPolicy::decay,
                                      ClipPolicy::quantile,  ClipPolicy::zclip, ClipPolicy::robust,
                                      ClipPolicy::per_tensor};
const std::vector<ClipPolicy> kRelative = {ClipPolicy::quantile, ClipPolicy::zclip,
                                           ClipPolicy::robust, ClipPolicy::per_tensor};

/// As norms of a training are: lognormal around a median.
struct RandomNorms {
  explicit RandomNorms(unsigned seed, double median = 0.5, double spread = 0.3)
      : random(seed), draw(std::log(median), spread) {}
  double operator()() { return draw(random); }
  std::mt19937 random;
  std::lognormal_distribution<double> draw;
};

}  // namespace

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
  config.policy = ClipPolicy::decay;
  config.fall_rate = 0.5;
  const auto clip = make_clip(config, 0);
  CHECK(clip->threshold() == 1);
  for (const Row& row : rows) {
    CAPTURE(row.norm);
    const ClipDecision decision = clip->decide({row.norm, {}});
    CHECK(decision.threshold == row.threshold);
    CHECK(decision.coefficient == row.coefficient);
    CHECK(decision.clipped == row.clipped);
    CHECK(clip->threshold() == row.threshold);
  }
}

TEST_CASE("decay starts at 1 with rate 0.99 and falls without end under norms that stay above") {
  const ClipConfig config;
  CHECK(config.initial == 1);
  CHECK(config.fall_rate == 0.99);
  const auto clip = clip_of(ClipPolicy::decay);
  for (int step = 1; step <= 459; ++step) {
    const ClipDecision decision = decide(*clip, 3);
    CHECK(decision.coefficient * 3 == doctest::Approx(std::pow(0.99, step)).epsilon(1e-12));
  }
  CHECK(clip->threshold() < 0.01);
}

TEST_CASE("fixed clips to its norm, none never clips") {
  const auto fixed = clip_of(ClipPolicy::fixed, 2);
  CHECK(decide(*fixed, 2).coefficient == 1);
  CHECK(decide(*fixed, 8).coefficient == 0.25);
  CHECK(decide(*fixed, 8).threshold == 2);
  CHECK(decide(*fixed, 8).clipped);
  CHECK(fixed->state().empty());
  const auto none = clip_of(ClipPolicy::none);
  CHECK(decide(*none, 1e30).coefficient == 1);
  CHECK(decide(*none, 1e30).threshold == 0);
}

TEST_CASE("quantile: worked by hand") {
  ClipConfig config;
  config.policy = ClipPolicy::quantile;
  config.quantile = 0.5;
  config.max_norm = 100;
  const auto clip = make_clip(config, 0);
  CHECK(clip->decide({4, {}}).coefficient == 1);       // of 4: 4
  CHECK(clip->decide({2, {}}).threshold == 3);         // of 2 4: 3
  CHECK(clip->decide({8, {}}).coefficient == 0.5);     // of 2 4 8: 4
  CHECK(clip->decide({16, {}}).coefficient == 0.375);  // of 2 4 8 16: 6
}

TEST_CASE("robust lets normal norms pass, clips outliers to the centre and skips spikes") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  const auto clip = clip_of(ClipPolicy::robust);
  RandomNorms norms(seed);
  int touched = 0;
  for (int step = 0; step < 1000; ++step) touched += decide(*clip, norms()).coefficient < 1 ? 1 : 0;
  CHECK(touched < 60);  // above the cap are 1 %, beyond 2.5 sigma less
  const ClipDecision outlier = decide(*clip, 0.5 * std::exp(0.3 * 4));
  CHECK(outlier.clipped);
  CHECK(outlier.coefficient * 0.5 * std::exp(0.3 * 4) == doctest::Approx(0.5).epsilon(0.15));
  const double before = clip->threshold();
  const ClipDecision spike = decide(*clip, 0.5 * 30);
  CHECK(spike.skip);
  CHECK(clip->threshold() == doctest::Approx(before).epsilon(0.1));
}

TEST_CASE("robust follows a change of regime by four, and never skips more than ten in a row") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (const double spread : {0.02, 0.1, 0.3, 0.5}) {
    CAPTURE(spread);
    const auto clip = clip_of(ClipPolicy::robust, 1000);
    RandomNorms before(seed, 0.5, spread), after(seed + 1, 2, spread);
    for (int step = 0; step < 500; ++step) decide(*clip, before());
    int in_a_row = 0, most = 0;
    for (int step = 0; step < 200; ++step) {
      in_a_row = decide(*clip, after()).skip ? in_a_row + 1 : 0;
      most = std::max(most, in_a_row);
    }
    CHECK(most <= 10);
    int passed = 0;
    for (int step = 0; step < 200; ++step)
      passed += decide(*clip, after()).coefficient == 1 ? 1 : 0;
    CHECK(passed >= 180);
  }
}

TEST_CASE("relative policies do not care for the gradient's scale, where no cap is near") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (const ClipPolicy policy : kRelative) {
    CAPTURE(name_of(policy));
    const auto small = clip_of(policy, 1e6), large = clip_of(policy, 1e6);
    RandomNorms norms(seed);
    for (int step = 0; step < 400; ++step) {
      const double norm = norms() * (step % 50 == 49 ? 20 : 1);
      const ClipDecision one = decide(*small, norm), other = decide(*large, 8 * norm);
      CHECK(one.coefficient == doctest::Approx(other.coefficient).epsilon(1e-9));
      CHECK(one.skip == other.skip);
    }
  }
}

TEST_CASE("early large norms leave no trace; but decay collapses") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (const ClipPolicy policy : kAll) {
    CAPTURE(name_of(policy));
    const auto disturbed = clip_of(policy), calm = clip_of(policy);
    RandomNorms norms(seed);
    for (int step = 0; step < 300; ++step) {
      const double norm = norms();
      decide(*disturbed, 3 * norm);
      decide(*calm, norm);
    }
    double passed = 0, expected = 0;
    for (int step = 0; step < 1500; ++step) {
      const double norm = norms();
      const double one = decide(*disturbed, norm).coefficient;
      const double other = decide(*calm, norm).coefficient;
      if (step >= 1000) {
        passed += one;
        expected += other;
      }
    }
    if (policy == ClipPolicy::decay) {
      CHECK(passed < 0.1 * expected);
    } else {
      CHECK(passed == doctest::Approx(expected).epsilon(0.1));
    }
  }
}

TEST_CASE("per_tensor: one loud parameter is clipped, the others pass") {
  const auto clip = clip_of(ClipPolicy::per_tensor);
  const std::vector<double> usual = {0.1, 0.2, 0.3};
  for (int step = 0; step < 200; ++step) clip->decide({0.374, usual});
  const std::vector<double> loud = {0.1, 200, 0.3};
  const ClipDecision decision = clip->decide({200, loud});
  CHECK(decision.parameters[0] == 1);
  CHECK(decision.parameters[1] == doctest::Approx(1.05 * 0.2 / 200));
  CHECK(decision.parameters[2] == 1);
  CHECK(decision.clipped);
}

TEST_CASE("a restored clip goes on to the bit, out of the warm-up and after a spike, too") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (const ClipPolicy policy : kAll) {
    for (const int before : {0, 10, 50, 130, 1200}) {
      CAPTURE(name_of(policy));
      CAPTURE(before);
      RandomNorms norms(seed);
      const auto whole = clip_of(policy);
      for (int step = 0; step < before; ++step) decide(*whole, norms());
      if (before > 0) decide(*whole, 100 * norms());
      const auto resumed = clip_of(policy);
      resumed->restore(whole->state());
      CHECK(resumed->threshold() == whole->threshold());
      for (int step = 0; step < 100; ++step) {
        const double norm = norms() * (step % 40 == 39 ? 30 : 1);
        const ClipDecision one = decide(*resumed, norm), other = decide(*whole, norm);
        CHECK(one.coefficient == other.coefficient);
        CHECK(one.skip == other.skip);
        CHECK(one.parameters == other.parameters);
        CHECK(resumed->threshold() == whole->threshold());
      }
      CHECK(resumed->state() == whole->state());
    }
  }
}

TEST_CASE("numbers that are no state of the policy are refused") {
  for (const ClipPolicy policy : kAll) {
    CAPTURE(name_of(policy));
    const auto clip = clip_of(policy);
    CHECK_THROWS_AS(clip->restore(std::vector<double>{0.5, 0.5, -1}), Error);
    CHECK_THROWS_AS(clip->restore(std::vector<double>{std::nan("")}), Error);
    CHECK_THROWS_AS(clip->restore(std::vector<double>{-1.0}), Error);
  }
  const auto decay = clip_of(ClipPolicy::decay);
  CHECK_THROWS_AS(decay->restore(std::vector<double>{}), Error);
  CHECK_THROWS_AS(decay->restore(std::vector<double>{0.5, 0.5}), Error);
  CHECK_THROWS_AS(decay->restore(std::vector<double>{2.0}), Error);
  CHECK(decay->threshold() == 1);
}
