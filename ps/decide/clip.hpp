#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/list.hpp"
#include "common/base/options.hpp"

namespace weir::ps {

enum class ClipPolicy { none, fixed, decay, quantile, zclip, robust, per_tensor, update_rms };

struct ClipConfig {
  ClipPolicy policy = ClipPolicy::robust;
  double max_norm =
      1;               ///< the bound of `fixed`; the cap of quantile, zclip, robust and of warm-ups
  double initial = 1;  ///< threshold of `decay` before the first step
  double fall_rate = 0.99;  ///< for `decay`
  double quantile = 0.1;    ///< for `quantile`
};

std::vector<Option> options(ClipConfig& config);
std::string name_of(ClipPolicy policy);

/// The norms of a gradient, all finite.
struct GradientNorms {
  double total = 0;                    ///< over all parameters together, rounded to float
  std::span<const double> parameters;  ///< one norm each; needed by per_tensor
};

struct ClipDecision {
  double coefficient = 1;  ///< the mean gradient times this is what the optimizer sees
  double threshold = 0;    ///< norms above it are clipped next; 0: there is none
  bool clipped = false;
  bool skip = false;  ///< a spike: the optimizer sees nothing of this gradient
  /// The coefficients of per_tensor, one a parameter; `coefficient` is then their effect on the
  /// norm.
  List<double> parameters = {};
};

/// Decides how much of a gradient passes. Server 0 has one; its state is part of the checkpoint.
/// Let n be the norm and c = max_norm:
///
///   none        1
///   fixed       min(1, c / n)
///   decay       n > t: t *= fall_rate, then t / n (the gradient is clipped to the threshold that
///               has just fallen); else t = min(1, t / fall_rate), and 1
///   quantile    min(1, c / n, q / n), q: the quantile of the last 1,000 norms, this one included
///               (AutoClip: Seetharaman et al., arXiv 2007.14469, with a window and a cap)
///   zclip       z = (n - mu) / sigma > 2.5: clips to mu + 2.5^2 / z sigma; never above c. Moving
///               averages (0.97) of the clipped norm (Kumar et al., arXiv 2504.02507)
///   robust      in logarithms, l = ln n: z = (l - mu) / sigma > 6: skips the step, at most 10 in a
///               row; z > 2.5: clips to e^mu; never above c. Moving averages (0.98) of l and of
///               |l - mu|, an outlier entering as one of 2.5 sigma
///   per_tensor  each parameter by itself: to 1.05 times the moving average (0.98) of its clipped
///               norm (AdaGC: Wang et al., arXiv 2502.11034)
///   update_rms  1: not the gradient is clipped, but by how much adamw steps each parameter, to a
///               root mean square of g / sqrt(v) of 1 (Shazeer & Stern, arXiv 1804.04235; see
///               trust.hpp). Bounds the step, not what enters the moments; costs LAMB's extra round
///
/// The first 25 steps of zclip and robust, 100 of per_tensor, clip to c alone and measure.
/// `decay` has a known failure: where the median norm stays above t it falls without end.
class Clip {
 public:
  virtual ~Clip() = default;

  /// Takes the norms of the next gradient. One that is not finite never gets here, so it leaves the
  /// state alone.
  virtual ClipDecision decide(const GradientNorms& norms) = 0;
  /// The threshold for the next gradient, as in ClipDecision.
  virtual double threshold() const = 0;
  /// The state as numbers; a Clip of the same policy that restores them continues to the same bits.
  /// Empty for policies without a state.
  virtual List<double> state() const = 0;
  /// Continues from this state. Throws Error if it is no state of this policy.
  void restore(std::span<const double> state);

 private:
  /// Takes the state; false if it is none of this policy.
  virtual bool take(std::span<const double> state) = 0;
};

/// `parameters`: how many the model has, for per_tensor.
std::unique_ptr<Clip> make_clip(const ClipConfig& config, index_t parameters);

}  // namespace weir::ps
