#pragma once

#include <span>
#include <string>
#include <vector>

#include "common/base/options.hpp"

namespace weir::ps {

enum class OptimizerKind { sgd, adamw, lion };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::adamw;
  double momentum = 0.9;  ///< of sgd
  bool nesterov = false;  ///< of sgd
  double beta1 = 0.9;     ///< of adamw and lion
  double beta2 = 0.95;    ///< of adamw and lion
  double epsilon = 1e-8;  ///< of adamw
  double weight_decay = 0.01;
};

std::vector<Option> options(OptimizerConfig& config);
/// Throws UsageError for settings that contradict each other.
void check(const OptimizerConfig& config);
std::string name_of(OptimizerKind kind);

/// What the optimizer keeps for each element, by name: `momentum`, or `mean` and `variance`. As
/// such they stand in a checkpoint.
std::vector<std::string> slot_names(OptimizerKind kind);

/// Of one step, for all buckets.
struct OptimizerStep {
  double factor = 1;        ///< mean and clip: the summed gradient times this is g
  double rate = 0;          ///< learning rate
  index_t applied = 1;      ///< steps applied so far, this one included, the skipped ones not
  double weight_decay = 0;  ///< of these elements; 0 where the spec has no decay
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
///
/// Decay is decoupled in all (it enters neither b nor m); sign(0) is 0. All in f32, each operation
/// rounded by itself (no fused multiply-add): an element gets the same bits wherever it lies in a
/// bucket and on any machine. Spans have one size and do not overlap; slots as slot_names says.
/// Source: Sutskever et al., ICML 2013, section 2 (nesterov, with b a step ahead as is usual now);
/// Kingma & Ba, arXiv 1412.6980; Loshchilov & Hutter, arXiv 1711.05101; Chen et al., arXiv
/// 2302.06675, algorithm 2.
void optimizer_step(const OptimizerConfig& config, const OptimizerStep& step,
                    std::span<float> weights, std::span<const float> gradient,
                    std::span<const std::span<float>> slots);

}  // namespace weir::ps
