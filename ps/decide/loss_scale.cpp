#include "ps/decide/loss_scale.hpp"

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"
#include "common/base/log.hpp"

namespace weir::ps {
namespace {

bool is_power_of_two(double value) {
  int exponent = 0;
  return value > 0 && std::isfinite(value) && std::frexp(value, &exponent) == 0.5;
}

bool is_count(double value) { return value >= 0 && value < 0x1p53 && value == std::floor(value); }

}  // namespace

std::vector<Option> options(LossScaleConfig& config) {
  return {
      {"loss-scale.initial",
       "",
       "precision fp16: the loss is multiplied by this at the start; a power of two",
       &config.initial,
       {0x1p-24, kLossScaleMax}},
      {"loss-scale.growth-steps",
       "steps",
       "precision fp16: the loss scale doubles after this many steps without an overflow",
       &config.growth_steps,
       {1, 1e12}},
      {"loss-scale.hysteresis",
       "",
       "precision fp16: the loss scale is halved from this overflow on since it has grown; each "
       "overflow skips its step",
       &config.hysteresis,
       {1, 20}},
      {"loss-scale.floor",
       "",
       "precision fp16: the loss scale falls no lower than this; a power of two",
       &config.floor,
       {0x1p-24, kLossScaleMax}},
  };
}

void check(const LossScaleConfig& config) {
  for (const auto& [name, value] :
       {std::pair("--loss-scale.initial", config.initial), {"--loss-scale.floor", config.floor}}) {
    if (is_power_of_two(value)) continue;
    throw UsageError(text(name, " ", value, " is not a power of two, which rounds nothing; take ",
                          std::exp2(std::round(std::log2(value)))));
  }
  if (config.floor > config.initial) {
    throw UsageError(text("--loss-scale.floor ", config.floor, " is above --loss-scale.initial ",
                          config.initial, "; take a lower floor"));
  }
}

LossScale::LossScale(const LossScaleConfig& config, Precision precision)
    : config_(config),
      is_constant_(precision != Precision::fp16),
      scale_(is_constant_ ? 1 : config.initial) {}

void LossScale::on_finite(double used) {
  if (is_constant_ || used < scale_) return;
  if (++clean_steps_ < config_.growth_steps) return;
  clean_steps_ = overflow_count_ = 0;
  scale_ = std::min(kLossScaleMax, 2 * scale_);
}

bool LossScale::on_overflow(double used) {
  if (is_constant_) return false;
  if (used > scale_) return true;
  clean_steps_ = 0;
  if (scale_ <= config_.floor) return false;
  overflow_count_ = std::min(overflow_count_ + 1, config_.hysteresis);
  if (overflow_count_ < config_.hysteresis) return true;
  scale_ = std::max(config_.floor, used / 2);
  if (scale_ <= config_.floor) {
    log_warning(text("the loss scale has fallen to its floor, ", scale_,
                     ": gradients overflow fp16 whatever it is; take a lower rate.peak or "
                     "--precision bf16"));
  }
  return true;
}

List<double> LossScale::state() const {
  if (is_constant_) return {};
  return {scale_, static_cast<double>(clean_steps_), static_cast<double>(overflow_count_)};
}

void LossScale::restore(std::span<const double> state) {
  if (is_constant_) return;
  if (state.empty()) {
    *this = LossScale(config_, Precision::fp16);
    return;
  }
  const bool good = state.size() == 3 && is_power_of_two(state[0]) && state[0] <= kLossScaleMax &&
                    is_count(state[1]) && is_count(state[2]);
  if (!good) {
    throw Error(text("restoring the loss scale: ", state.size(),
                     " numbers that are no state of it; the checkpoint is damaged"));
  }
  scale_ = std::max(config_.floor, state[0]);
  clean_steps_ = static_cast<index_t>(state[1]);
  overflow_count_ = std::min(static_cast<index_t>(state[2]), config_.hysteresis);
}

}  // namespace weir::ps
