#include "ps/decide/rate.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/base/error.hpp"

namespace weir::ps {
namespace {

/// Rises from 0 to 1 along half a cosine for x in [0, 1].
double half_cosine(double x) { return (1 - std::cos(std::numbers::pi * x)) / 2; }

}  // namespace

std::vector<Option> options(RateConfig& config) {
  return {
      {"rate.schedule", "", "shape of the learning rate after the warm-up",
       choice(config.schedule, {{"constant", RateSchedule::constant},
                                {"linear", RateSchedule::linear},
                                {"cosine", RateSchedule::cosine},
                                {"one-cycle", RateSchedule::one_cycle}})},
      {"rate.peak", "", "the highest learning rate", &config.peak, {0, 1e3}},
      {"rate.warm-up",
       "steps",
       "number of first steps during which the learning rate rises",
       &config.warm_up_steps,
       {0, 1e12}},
      {"rate.final",
       "",
       "learning rate at the last step, as a fraction of the peak",
       &config.final_fraction,
       {0, 1}},
  };
}

double rate_at(const RateConfig& config, index_t step, index_t steps) {
  WEIR_ASSERT(step >= 1);
  const index_t warm_up = config.warm_up_steps;
  if (step <= warm_up) {
    const double x = static_cast<double>(step) / static_cast<double>(warm_up);
    if (config.schedule == RateSchedule::one_cycle) {
      return config.peak * (1 + 24 * half_cosine(x)) / 25;
    }
    return config.peak * x;
  }
  const double x = std::min(1.0, static_cast<double>(step - warm_up) /
                                     static_cast<double>(std::max<index_t>(1, steps - warm_up)));
  const double fall = 1 - config.final_fraction;
  switch (config.schedule) {
    case RateSchedule::constant:
      return config.peak;
    case RateSchedule::linear:
      return config.peak * (1 - fall * x);
    case RateSchedule::cosine:
    case RateSchedule::one_cycle:
      return config.peak * (1 - fall * half_cosine(x));
  }
  WEIR_UNREACHABLE();
}

}  // namespace weir::ps
