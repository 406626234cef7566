#pragma once

#include <span>
#include <vector>

#include "common/base/list.hpp"
#include "common/base/options.hpp"
#include "common/job/training.hpp"

namespace weir::ps {

/// Scales are powers of two.
struct LossScaleConfig {
  double initial = 0x1p16;
  index_t growth_steps = 2000;
  index_t hysteresis = 1;
  double floor = 0x1p-5;
};

/// No scale grows beyond this.
inline constexpr double kLossScaleMax = 0x1p32;

std::vector<Option> options(LossScaleConfig& config);
/// Throws UsageError unless the scales are powers of two, the floor not above the initial one.
void check(const LossScaleConfig& config);

/// What the loss is multiplied by in fp16, whose smallest number is 6e-8: small gradients would
/// vanish. The scale is kept as large as it can be without gradients beyond the largest number,
/// 65504. As a power of two it rounds nothing. Let s be the scale that a step's gradients were made
/// with and S the present one:
///
///   finite      if s >= S it counts as clean; after growth_steps clean steps without an overflow
///               between them S doubles, and the hysteresis begins anew
///   not finite  if s > S nothing: S has fallen since, the overflow is answered already; else, if
///               it is at least the hysteresis-th overflow since S has grown, S = max(floor, s / 2)
///
/// s differs from S where replicas step one by one (ssp, asp): S may change between the pull of a
/// replica and its push. A warning says when S falls to the floor.
///
/// The scale of fp32 and bf16 is always 1 and has no state.
///
/// Source: Micikevicius et al., arXiv 1710.03740, with the constants of PyTorch's GradScaler; the
/// hysteresis is Megatron-LM's.
class LossScale {
 public:
  LossScale(const LossScaleConfig& config, Precision precision);

  double scale() const { return scale_; }
  void on_finite(double used);
  /// False if the scale is not to blame: it is constant, or as low as it may be.
  bool on_overflow(double used);

  /// Raw doubles; a LossScale that restores them goes on to the bit. Empty if it is constant.
  List<double> state() const;
  /// An empty state begins anew, and a constant scale stays what it is. Throws Error if these are
  /// no state.
  void restore(std::span<const double> state);

 private:
  LossScaleConfig config_;
  bool is_constant_;
  double scale_;
  index_t clean_steps_ = 0;     ///< since the scale has changed, or an overflow
  index_t overflow_count_ = 0;  ///< since the scale has grown, at most `hysteresis`
};

}  // namespace weir::ps
