#include "ps/decide/loss_scale.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "common/base/error.hpp"
#include "tests/ps/simulated_job.hpp"

using namespace weir;
using namespace weir::ps;

namespace {

/// A step whose gradients were made with the scale 2^used: finite, or not.
struct Row {
  const char* why;
  bool is_finite;
  int used;
  int after;           ///< the scale is 2^after then
  bool blames = true;  ///< an overflow is the scale's fault
};

void check_rows(LossScale scale, const std::vector<Row>& rows) {
  for (std::size_t at = 0; at < rows.size(); ++at) {
    const Row& row = rows[at];
    CAPTURE(at);
    CAPTURE(row.why);
    if (row.is_finite) {
      scale.on_finite(std::ldexp(1.0, row.used));
    } else {
      CHECK(scale.on_overflow(std::ldexp(1.0, row.used)) == row.blames);
    }
    CHECK(scale.scale() == std::ldexp(1.0, row.after));
  }
}

}  // namespace

TEST_CASE("the scale halves upon an overflow and doubles after clean steps in a row: the rules") {
  const test::QuietLog quiet;
  check_rows(LossScale({.initial = 16, .growth_steps = 3, .floor = 4}, Precision::fp16),
             {{"clean", true, 4, 4},
              {"clean", true, 4, 4},
              {"the third clean step doubles it", true, 4, 5},
              {"clean", true, 5, 5},
              {"clean", true, 5, 5},
              {"an overflow before the third halves it", false, 5, 4},
              {"clean, counted from the overflow on", true, 4, 4},
              {"clean", true, 4, 4},
              {"an overflow", false, 4, 3},
              {"and another at once", false, 3, 2},
              {"at the floor the scale is not to blame", false, 2, 2, false},
              {"clean", true, 2, 2},
              {"clean", true, 2, 2},
              {"up from the floor", true, 2, 3}});
}

TEST_CASE("gradients of an older scale: an overflow is answered once, clean steps count for less") {
  const test::QuietLog quiet;
  const LossScaleConfig config = {.initial = 32, .growth_steps = 3, .floor = 1};
  check_rows(LossScale(config, Precision::fp16),
             {{"one replica overflows", false, 5, 4},
              {"another did so with the scale from before: answered", false, 5, 4},
              {"clean", true, 4, 4},
              {"a late overflow does not begin the count anew", false, 5, 4},
              {"clean with a larger scale is clean with this one, too", true, 5, 4},
              {"the third", true, 4, 5},
              {"clean with a smaller scale says nothing", true, 4, 5},
              {"clean", true, 5, 5},
              {"clean", true, 5, 5},
              {"the third at this scale", true, 5, 6},
              {"an overflow with a smaller scale: half of that one", false, 5, 4}});
}

TEST_CASE("hysteresis: so many overflows since the scale has grown, then each halves it") {
  const test::QuietLog quiet;
  check_rows(
      LossScale({.initial = 32, .growth_steps = 2, .hysteresis = 3, .floor = 1}, Precision::fp16),
      {{"the first is borne", false, 5, 5},
       {"clean", true, 5, 5},
       {"and the second", false, 5, 5},
       {"the third halves", false, 5, 4},
       {"and so does each after it", false, 4, 3},
       {"clean", true, 3, 3},
       {"grows", true, 3, 4},
       {"borne again", false, 4, 4},
       {"borne", false, 4, 4},
       {"halves", false, 4, 3}});
}

TEST_CASE("without a word it begins with 2^16 and doubles after 2,000 steps, up to 2^32") {
  LossScale scale({}, Precision::fp16);
  for (int step = 0; step < 1999; ++step) scale.on_finite(scale.scale());
  CHECK(scale.scale() == 65536);
  scale.on_finite(scale.scale());
  CHECK(scale.scale() == 131072);
  LossScale high({.initial = 0x1p31, .growth_steps = 1}, Precision::fp16);
  for (int step = 0; step < 5; ++step) high.on_finite(high.scale());
  CHECK(high.scale() == 0x1p32);
}

TEST_CASE("fp32 and bf16 have the scale 1, no state, and blame nothing on it") {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    CAPTURE(name_of(precision));
    LossScale scale({.growth_steps = 1}, precision);
    scale.on_finite(1);
    CHECK_FALSE(scale.on_overflow(1));
    CHECK(scale.scale() == 1);
    CHECK(scale.state().empty());
    const double state[] = {1024, 3, 0};  // from a checkpoint of fp16
    scale.restore(state);
    CHECK(scale.scale() == 1);
  }
}

TEST_CASE("a scale that restores a state goes on to the bit, wherever it was taken") {
  const test::QuietLog quiet;
  const LossScaleConfig config = {.initial = 64, .growth_steps = 4, .hysteresis = 2, .floor = 2};
  std::mt19937 random(5);
  std::vector<bool> finite;
  for (int step = 0; step < 200; ++step) finite.push_back(random() % 5 > 0);
  LossScale whole(config, Precision::fp16);
  const auto step = [](LossScale& scale, bool is_finite) {
    if (is_finite) {
      scale.on_finite(scale.scale());
    } else {
      scale.on_overflow(scale.scale());
    }
  };
  std::vector<LossScale> resumed;
  for (const bool is_finite : finite) {
    step(whole, is_finite);
    for (LossScale& each : resumed) step(each, is_finite);
    resumed.emplace_back(config, Precision::fp16).restore(whole.state());
  }
  for (const LossScale& each : resumed) CHECK(each.state() == whole.state());

  LossScale fresh(config, Precision::fp16);
  step(fresh, false);
  step(fresh, false);
  CHECK(fresh.scale() == 32);
  fresh.restore({});  // a checkpoint without one
  CHECK(fresh.state() == LossScale(config, Precision::fp16).state());
  const double low[] = {0.5, 0, 0};  // the floor has been raised since
  fresh.restore(low);
  CHECK(fresh.scale() == 2);
}

TEST_CASE("what is no state, and scales that would round, are refused") {
  LossScale scale({}, Precision::fp16);
  for (const std::vector<double>& state : {std::vector<double>{1},
                                           {3, 0, 0},
                                           {-2, 0, 0},
                                           {0, 0, 0},
                                           {1024, -1, 0},
                                           {1024, 0, 0.5},
                                           {0x1p40, 0, 0},
                                           {std::nan(""), 0, 0},
                                           {INFINITY, 0, 0},
                                           {1024, 0, 0, 0}}) {
    CHECK_THROWS_WITH_AS(scale.restore(state), doctest::Contains("restoring the loss scale"),
                         Error);
  }
  CHECK(scale.scale() == 65536);
  check(LossScaleConfig());
  CHECK_THROWS_WITH_AS(check(LossScaleConfig{.initial = 1000}),
                       doctest::Contains("--loss-scale.initial 1000 is not a power of two, which "
                                         "rounds nothing; take 1024"),
                       UsageError);
  CHECK_THROWS_WITH_AS(check(LossScaleConfig{.floor = 0.3}), doctest::Contains("take 0.25"),
                       UsageError);
  CHECK_THROWS_WITH_AS(check(LossScaleConfig{.initial = 4, .floor = 8}),
                       doctest::Contains("is above --loss-scale.initial 4"), UsageError);
}
