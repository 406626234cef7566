#pragma once

#include <span>
#include <string>
#include <vector>

#include "common/base/options.hpp"

namespace weir::ps {

enum class OptimizerKind { sgd, adamw, lion, lamb };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::adamw;
  double momentum = 0.9;  ///< for sgd
  bool nesterov = false;  ///< for sgd
  double beta1 = 0.9;     ///< for adamw, lion and lamb
  double beta2 = 0.95;    ///< for adamw, lion and lamb
  double epsilon = 1e-8;  ///< for adamw and lamb
  double weight_decay = 0.01;
  bool decay_all = false;  ///< decay also applies to parameters whose spec has none
  // No option: follows from clip.policy.
  bool clips_updates = false;  ///< for adamw: the rate of each parameter follows from its update
};

std::vector<Option> options(OptimizerConfig& config);
/// Throws UsageError for settings that contradict each other.
void check(const OptimizerConfig& config);
std::string name_of(OptimizerKind kind);

/// The names of what the optimizer keeps for each element: `momentum`, or `mean` and `variance`. A
/// checkpoint uses the same names.
std::vector<std::string> slot_names(OptimizerKind kind);

/// Whether each parameter's step is scaled by a trust ratio, which needs the norms of its weights
/// and its direction over all servers (trust.hpp). A step then takes two passes:
/// optimizer_direction on all elements, and, with the ratios, optimizer_step.
bool has_trust(const OptimizerConfig& config);

/// What one step needs to know, for all buckets.
struct OptimizerStep {
  double factor = 1;        ///< mean and clip: the summed gradient times this is g
  double rate = 0;          ///< learning rate
  index_t applied = 1;      ///< steps applied so far, this one included, the skipped ones not
  double weight_decay = 0;  ///< for these elements; 0 where they do not decay
  double trust = 1;         ///< for these elements, where has_trust: multiplies the rate
};

/// One step on a run of elements, in one pass: weights w and slots change in place.
///
///   sgd:    b = momentum b + g                         w -= rate (b + weight_decay w)
///           with nesterov                              w -= rate (g + momentum b + weight_decay w)
///   adamw:  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///           w -= rate ((m / (1 - beta1^applied)) / (sqrt(v / (1 - beta2^applied)) + epsilon)
///                      + weight_decay w)
///   lion:   w -= rate (sign(beta1 b + (1 - beta1) g) + weight_decay w)
///           b = beta2 b + (1 - beta2) g
///   lamb:   w -= rate trust u, where u is what optimizer_direction has left in `gradient`
///
/// Decay is decoupled in all (it enters neither b nor m); sign(0) is 0. All in f32, each operation
/// rounded by itself (no fused multiply-add): an element gets the same bits wherever it lies in a
/// bucket and on any machine. Spans have one size and do not overlap; slots as slot_names says.
/// Source: Sutskever et al., ICML 2013, section 2 (nesterov, with b a step ahead as is usual now);
/// Kingma & Ba, arXiv 1412.6980; Loshchilov & Hutter, arXiv 1711.05101; Chen et al., arXiv
/// 2302.06675, algorithm 2; You et al., arXiv 1904.00962, algorithm 2.
void optimizer_step(const OptimizerConfig& config, const OptimizerStep& step,
                    std::span<float> weights, std::span<const float> gradient,
                    std::span<const std::span<float>> slots);

/// Sums of squares, in double.
struct DirectionSquares {
  double weights = 0;
  double directions = 0;
};

/// The first pass of an optimizer with has_trust. Returns the sums of squares of these weights and
/// directions u, added in an order that only the number of elements decides. All else is as in
/// optimizer_step.
///
///   lamb:   u = what adamw subtracts, but for the rate: decay is part of it. Slots change in
///   place,
///           the gradient becomes u
///   adamw that clips updates:
///           u = g / max(sqrt(v / (1 - beta2^applied)), epsilon), v as it will be after this step.
///           Nothing changes; weights are not looked at. (Shazeer & Stern, arXiv 1804.04235,
///           section 6, as Wortsman et al., arXiv 2304.13013, algorithm 2, have it.)
DirectionSquares optimizer_direction(const OptimizerConfig& config, const OptimizerStep& step,
                                     std::span<const float> weights, std::span<float> gradient,
                                     std::span<const std::span<float>> slots);

}  // namespace weir::ps
