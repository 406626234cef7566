#include "ps/clip.hpp"

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"

namespace weir::ps {
namespace {

const std::vector<std::pair<std::string, ClipPolicy>> kPolicyNames = {
    {"none", ClipPolicy::none}, {"fixed", ClipPolicy::fixed}, {"decay", ClipPolicy::decay}};

/// The cap of `decay`.
constexpr double kHighestThreshold = 1;

}  // namespace

std::vector<Option> options(ClipConfig& config) {
  return {
      {"clip.policy", "", "how the norm of the gradient is bounded",
       choice(config.policy, kPolicyNames)},
      {"clip.max-norm", "", "policy fixed: the largest norm", &config.max_norm, {1e-6, 1e6}},
      {"clip.initial",
       "",
       "policy decay: the threshold at the start",
       &config.initial,
       {1e-6, kHighestThreshold}},
      {"clip.rate",
       "",
       "policy decay: the threshold falls and rises by this factor",
       &config.fall_rate,
       {0.01, 0.9999}},
  };
}

std::string name_of(ClipPolicy policy) {
  return std::ranges::find(kPolicyNames, policy, &std::pair<std::string, ClipPolicy>::second)
      ->first;
}

ClipDecision Clip::decide(double norm) {
  WEIR_ASSERT(std::isfinite(norm) && norm >= 0);
  switch (config_.policy) {
    case ClipPolicy::none:
      return {};
    case ClipPolicy::fixed:
      if (norm > config_.max_norm) return {config_.max_norm / norm, config_.max_norm, true};
      return {1, config_.max_norm, false};
    case ClipPolicy::decay:
      if (norm > threshold_) {
        threshold_ *= config_.fall_rate;
        return {threshold_ / norm, threshold_, true};
      }
      threshold_ = std::min(kHighestThreshold, threshold_ / config_.fall_rate);
      return {1, threshold_, false};
  }
  WEIR_UNREACHABLE();
}

double Clip::threshold() const {
  switch (config_.policy) {
    case ClipPolicy::none:
      return 0;
    case ClipPolicy::fixed:
      return config_.max_norm;
    case ClipPolicy::decay:
      return threshold_;
  }
  WEIR_UNREACHABLE();
}

std::vector<double> Clip::state() const {
  switch (config_.policy) {
    case ClipPolicy::none:
    case ClipPolicy::fixed:
      return {};
    case ClipPolicy::decay:
      return {threshold_};
  }
  WEIR_UNREACHABLE();
}

void Clip::restore(std::span<const double> state) {
  if (state.size() != this->state().size() ||
      std::ranges::any_of(state, [](double value) { return !(value >= 0 && value <= 1); })) {
    throw Error(text("restoring the clip policy ", name_of(config_.policy), ": ", state.size(),
                     " numbers that are no state of it; the checkpoint is damaged"));
  }
  if (!state.empty()) threshold_ = state.front();
}

}  // namespace weir::ps
