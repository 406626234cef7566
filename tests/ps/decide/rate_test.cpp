#include "ps/decide/rate.hpp"

#include <doctest/doctest.h>

#include <cmath>

using namespace weir;
using namespace weir::ps;

namespace {

constexpr index_t kSteps = 110;

RateConfig config_of(RateSchedule schedule) {
  return {.schedule = schedule, .peak = 0.4, .warm_up_steps = 10, .final_fraction = 0.25};
}

double rate(RateSchedule schedule, index_t step) {
  return rate_at(config_of(schedule), step, kSteps);
}

}  // namespace

TEST_CASE("the rate rises in equal steps during the warm-up, except in one-cycle") {
  for (RateSchedule schedule :
       {RateSchedule::constant, RateSchedule::linear, RateSchedule::cosine}) {
    for (index_t step = 1; step <= 10; ++step) {
      CHECK(rate(schedule, step) == doctest::Approx(0.04 * static_cast<double>(step)));
    }
  }
  CHECK(rate(RateSchedule::one_cycle, 5) == doctest::Approx(0.4 * 13 / 25));  // half way
  CHECK(rate(RateSchedule::one_cycle, 10) == doctest::Approx(0.4));
  CHECK(rate(RateSchedule::one_cycle, 1) > 0.4 / 25);
  CHECK(rate(RateSchedule::one_cycle, 1) < 0.4 / 25 + 0.02);
}

TEST_CASE("after the warm-up each schedule follows its formula") {
  // A quarter, a half, all of the way down from 0.4 to 0.1.
  CHECK(rate(RateSchedule::constant, 60) == 0.4);
  CHECK(rate(RateSchedule::constant, 110) == 0.4);
  CHECK(rate(RateSchedule::linear, 35) == doctest::Approx(0.325));
  CHECK(rate(RateSchedule::linear, 60) == doctest::Approx(0.25));
  CHECK(rate(RateSchedule::linear, 110) == doctest::Approx(0.1));
  for (RateSchedule schedule : {RateSchedule::cosine, RateSchedule::one_cycle}) {
    CHECK(rate(schedule, 35) == doctest::Approx(0.25 + 0.15 * std::sqrt(0.5)));
    CHECK(rate(schedule, 60) == doctest::Approx(0.25));
    CHECK(rate(schedule, 110) == doctest::Approx(0.1));
  }
}

TEST_CASE(
    "schedules hold their end beyond the last step, and survive a warm-up that is all there is") {
  CHECK(rate(RateSchedule::linear, 500) == doctest::Approx(0.1));
  CHECK(rate(RateSchedule::cosine, 500) == doctest::Approx(0.1));
  const RateConfig config = {.peak = 1, .warm_up_steps = 10, .final_fraction = 0};
  CHECK(rate_at(config, 5, 5) == doctest::Approx(0.5));
  CHECK(rate_at(config, 10, 10) == doctest::Approx(1));
}
