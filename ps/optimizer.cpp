#include "ps/optimizer.hpp"

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"

namespace weir::ps {
namespace {

const std::vector<std::pair<std::string, OptimizerKind>> kKindNames = {
    {"sgd", OptimizerKind::sgd}, {"adamw", OptimizerKind::adamw}, {"lion", OptimizerKind::lion}};

// This file is compiled with -ffp-contract=off (CMakeLists.txt): else the vectors and the tail of a
// loop could be contracted differently and bits would depend on where a bucket ends.
#if defined(__x86_64__) && !defined(WEIR_SANITIZE)
#define WEIR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WEIR_EACH_CPU
#endif

struct SgdScalars {
  float factor, rate, momentum, decay;
  float gradient_part, momentum_part;  ///< of the direction: 0 and 1, or nesterov's 1 and momentum
};

WEIR_EACH_CPU void sgd(SgdScalars s, std::size_t count, float* __restrict w,
                       const float* __restrict gradient, float* __restrict momentum) {
#pragma omp simd
  for (std::size_t i = 0; i < count; ++i) {
    const float g = s.factor * gradient[i];
    const float b = s.momentum * momentum[i] + g;
    momentum[i] = b;
    const float direction = s.gradient_part * g + s.momentum_part * b;
    w[i] -= s.rate * (direction + s.decay * w[i]);
  }
}

struct AdamScalars {
  float factor, rate, beta1, rest1, beta2, rest2, mean_correction, deviation_correction, epsilon,
      decay;
};

WEIR_EACH_CPU void adamw(AdamScalars s, std::size_t count, float* __restrict w,
                         const float* __restrict gradient, float* __restrict mean,
                         float* __restrict variance) {
#pragma omp simd
  for (std::size_t i = 0; i < count; ++i) {
    const float g = s.factor * gradient[i];
    const float m = s.beta1 * mean[i] + s.rest1 * g;
    const float v = s.beta2 * variance[i] + s.rest2 * (g * g);
    mean[i] = m;
    variance[i] = v;
    const float direction =
        (m * s.mean_correction) / (std::sqrt(v) * s.deviation_correction + s.epsilon);
    w[i] -= s.rate * (direction + s.decay * w[i]);
  }
}

struct LionScalars {
  float factor, rate, beta1, rest1, beta2, rest2, decay;
};

WEIR_EACH_CPU void lion(LionScalars s, std::size_t count, float* __restrict w,
                        const float* __restrict gradient, float* __restrict momentum) {
#pragma omp simd
  for (std::size_t i = 0; i < count; ++i) {
    const float g = s.factor * gradient[i];
    const float b = momentum[i];
    const float leaning = s.beta1 * b + s.rest1 * g;
    const float sign = static_cast<float>(leaning > 0) - static_cast<float>(leaning < 0);
    momentum[i] = s.beta2 * b + s.rest2 * g;
    w[i] -= s.rate * (sign + s.decay * w[i]);
  }
}

}  // namespace

std::vector<Option> options(OptimizerConfig& config) {
  return {
      {"optimizer.kind", "", "how weights follow from gradients", choice(config.kind, kKindNames)},
      {"optimizer.momentum", "", "sgd: momentum", &config.momentum, {0, 0.9999}},
      {"optimizer.nesterov", "", "sgd: steps along the momentum as it will be, not as it is",
       &config.nesterov},
      {"optimizer.beta1",
       "",
       "adamw: decay of the mean; lion: share of the momentum in the sign",
       &config.beta1,
       {0, 0.9999}},
      {"optimizer.beta2",
       "",
       "adamw: decay of the variance; lion: of the momentum (0.99 is usual)",
       &config.beta2,
       {0, 0.99999}},
      {"optimizer.epsilon", "", "adamw: added to the deviation", &config.epsilon, {1e-12, 1}},
      {"optimizer.weight-decay",
       "",
       "decoupled, times the learning rate: of matrices, the head and a tied embedding too, not of "
       "norms, biases, learned positions, an embedding apart from the head",
       &config.weight_decay,
       {0, 10}},
  };
}

void check(const OptimizerConfig& config) {
  if (!config.nesterov) return;
  if (config.kind != OptimizerKind::sgd) {
    throw UsageError(
        text("--optimizer.nesterov is for --optimizer.kind sgd, not for ", name_of(config.kind)));
  }
  if (config.momentum == 0) {
    throw UsageError(
        "--optimizer.nesterov looks ahead along the momentum, and --optimizer.momentum is 0; take "
        "0.9, or leave nesterov out");
  }
}

std::string name_of(OptimizerKind kind) {
  return std::ranges::find(kKindNames, kind, &std::pair<std::string, OptimizerKind>::second)->first;
}

std::vector<std::string> slot_names(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::sgd:
    case OptimizerKind::lion:
      return {"momentum"};
    case OptimizerKind::adamw:
      return {"mean", "variance"};
  }
  WEIR_UNREACHABLE();
}

void optimizer_step(const OptimizerConfig& config, const OptimizerStep& step,
                    std::span<float> weights, std::span<const float> gradient,
                    std::span<const std::span<float>> slots) {
  WEIR_ASSERT(gradient.size() == weights.size() && step.applied >= 1);
  WEIR_ASSERT(slots.size() == slot_names(config.kind).size());
  WEIR_ASSERT(std::ranges::all_of(
      slots, [&](std::span<float> slot) { return slot.size() == weights.size(); }));
  const auto factor = static_cast<float>(step.factor);
  const auto rate = static_cast<float>(step.rate);
  const auto decay = static_cast<float>(step.weight_decay);
  switch (config.kind) {
    case OptimizerKind::sgd: {
      const auto momentum = static_cast<float>(config.momentum);
      sgd({factor, rate, momentum, decay, config.nesterov ? 1.0F : 0.0F,
           config.nesterov ? momentum : 1.0F},
          weights.size(), weights.data(), gradient.data(), slots[0].data());
      return;
    }
    case OptimizerKind::lion:
      lion({factor, rate, static_cast<float>(config.beta1), static_cast<float>(1 - config.beta1),
            static_cast<float>(config.beta2), static_cast<float>(1 - config.beta2), decay},
           weights.size(), weights.data(), gradient.data(), slots[0].data());
      return;
    case OptimizerKind::adamw: {
      const auto applied = static_cast<double>(step.applied);
      const AdamScalars scalars = {
          factor,
          rate,
          static_cast<float>(config.beta1),
          static_cast<float>(1 - config.beta1),
          static_cast<float>(config.beta2),
          static_cast<float>(1 - config.beta2),
          static_cast<float>(1 / (1 - std::pow(config.beta1, applied))),
          static_cast<float>(1 / std::sqrt(1 - std::pow(config.beta2, applied))),
          static_cast<float>(config.epsilon),
          decay};
      adamw(scalars, weights.size(), weights.data(), gradient.data(), slots[0].data(),
            slots[1].data());
      return;
    }
  }
  WEIR_UNREACHABLE();
}

}  // namespace weir::ps
