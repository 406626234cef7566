#pragma once

#include <vector>

#include "common/base/options.hpp"

namespace weir::ps {

enum class RateSchedule { constant, linear, cosine, one_cycle };

/// The learning rate of a step: it rises during the warm-up, then goes on as the schedule says.
struct RateConfig {
  RateSchedule schedule = RateSchedule::cosine;
  double peak = 1e-3;
  index_t warm_up_steps = 0;
  double final_fraction = 0.1;  ///< the last rate, as a share of the peak
};

std::vector<Option> options(RateConfig& config);

/// Learning rate of step `step`, 1 <= step; `steps` is the number of all steps. With W warm-up
/// steps, final fraction f and x = (step - W) / (steps - W), at most 1:
///
///             step <= W                              step > W
///   constant  peak step/W                            peak
///   linear    peak step/W                            peak (1 - (1 - f) x)
///   cosine    peak step/W                            peak (f + (1 - f) (1 + cos(pi x)) / 2)
///   one-cycle peak (1 + 12 (1 - cos(pi step/W)))/25  as cosine
///
/// Source: cosine: Loshchilov & Hutter, arXiv 1608.03983; one-cycle: Smith & Topin, arXiv
/// 1708.07120, in its usual form (half cosines, up from a 25th of the peak).
double rate_at(const RateConfig& config, index_t step, index_t steps);

}  // namespace weir::ps
