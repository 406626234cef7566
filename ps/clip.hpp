#pragma once

#include <span>
#include <string>
#include <vector>

#include "common/base/options.hpp"

namespace weir::ps {

enum class ClipPolicy {
  none,   ///< never clips
  fixed,  ///< to the norm `clip.max-norm`
  decay,  ///< to a threshold that falls with each norm above it and rises again below (the default)
};

struct ClipConfig {
  ClipPolicy policy = ClipPolicy::decay;
  double max_norm = 1;      ///< of `fixed`
  double initial = 1;       ///< threshold of `decay` before the first step
  double fall_rate = 0.99;  ///< of `decay`
};

std::vector<Option> options(ClipConfig& config);
std::string name_of(ClipPolicy policy);

struct ClipDecision {
  double coefficient = 1;  ///< the mean gradient times this is what the optimizer sees
  double threshold = 0;    ///< after this decision; 0 for `none`
  bool clipped = false;
};

/// Decides how much of a gradient passes. One on server 0; its state is part of the checkpoint.
///
///   none:   coefficient 1
///   fixed:  norm > max_norm: coefficient max_norm / norm
///   decay:  norm > threshold: threshold *= fall_rate, then coefficient threshold / norm (the
///           gradient is clipped to the threshold that has just fallen);
///           else: threshold = min(1, threshold / fall_rate), coefficient 1
///
/// `decay` has a known failure: the more often it clips, the lower the threshold, the more often it
/// clips. Where the median norm stays above the threshold it falls without end (0.99^steps).
class Clip {
 public:
  explicit Clip(const ClipConfig& config) : config_(config), threshold_(config.initial) {}

  /// `norm` is finite: a gradient that is not finite never gets here and leaves the state alone.
  ClipDecision decide(double norm);

  /// As in ClipDecision, before the next one.
  double threshold() const;
  /// Raw doubles; a Clip of the same policy that restores them goes on to the bit. Empty for
  /// policies without a state.
  std::vector<double> state() const;
  /// Throws Error if these are no state of this policy.
  void restore(std::span<const double> state);

 private:
  ClipConfig config_;
  double threshold_;  ///< of `decay`
};

}  // namespace weir::ps
