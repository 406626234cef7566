#include "ps/update/optimizer.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/base/error.hpp"
#include "common/number/vector.hpp"

namespace weir::ps {
namespace {

const std::vector<std::pair<std::string, OptimizerKind>> kKindNames = {
    {"sgd", OptimizerKind::sgd},
    {"adamw", OptimizerKind::adamw},
    {"lion", OptimizerKind::lion},
    {"lamb", OptimizerKind::lamb}};

// This file is compiled with -ffp-contract=off (CMakeLists.txt): else the vectors and the tail of a
// loop could be contracted differently and bits would depend on where a bucket ends.
#if defined(__x86_64__) && !defined(WEIR_SANITIZE)
#define WEIR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WEIR_EACH_CPU
#endif

struct SgdScalars {
  float factor, rate, momentum, decay;
  float gradient_part,
      momentum_part;  ///< parts of the direction: 0 and 1, or nesterov's 1 and momentum
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

/// What adamw and lamb use in a step.
struct AdamScalars {
  float factor, beta1, rest1, beta2, rest2, mean_correction, deviation_correction, epsilon, decay;
};

AdamScalars adam_scalars(const OptimizerConfig& config, const OptimizerStep& step) {
  const auto applied = static_cast<double>(step.applied);
  return {static_cast<float>(step.factor),
          static_cast<float>(config.beta1),
          static_cast<float>(1 - config.beta1),
          static_cast<float>(config.beta2),
          static_cast<float>(1 - config.beta2),
          static_cast<float>(1 / (1 - std::pow(config.beta1, applied))),
          static_cast<float>(1 / std::sqrt(1 - std::pow(config.beta2, applied))),
          static_cast<float>(config.epsilon),
          static_cast<float>(step.weight_decay)};
}

/// The length of a run: the squares of its directions are taken while it is in the first cache.
constexpr std::size_t kRunElements = 512;

/// Returns the direction of one element and changes its moments.
inline float adam_direction(const AdamScalars& s, float w, float gradient, float& mean,
                            float& variance) {
  const float g = s.factor * gradient;
  mean = s.beta1 * mean + s.rest1 * g;
  variance = s.beta2 * variance + s.rest2 * (g * g);
  const float direction =
      (mean * s.mean_correction) / (std::sqrt(variance) * s.deviation_correction + s.epsilon);
  return direction + s.decay * w;
}

WEIR_EACH_CPU void adamw(AdamScalars s, float rate, std::size_t count, float* __restrict w,
                         const float* __restrict gradient, float* __restrict mean,
                         float* __restrict variance) {
#pragma omp simd
  for (std::size_t i = 0; i < count; ++i) {
    w[i] -= rate * adam_direction(s, w[i], gradient[i], mean[i], variance[i]);
  }
}

WEIR_EACH_CPU void lamb_direction(AdamScalars s, std::size_t count, const float* __restrict w,
                                  float* __restrict gradient, float* __restrict mean,
                                  float* __restrict variance) {
#pragma omp simd
  for (std::size_t i = 0; i < count; ++i) {
    gradient[i] = adam_direction(s, w[i], gradient[i], mean[i], variance[i]);
  }
}

/// The direction of adamw without its mean and decay, which update clipping measures.
WEIR_EACH_CPU void relative_gradient(AdamScalars s, std::size_t count,
                                     const float* __restrict gradient,
                                     const float* __restrict variance, float* __restrict out) {
#pragma omp simd
  for (std::size_t i = 0; i < count; ++i) {
    const float g = s.factor * gradient[i];
    const float after = s.beta2 * variance[i] + s.rest2 * (g * g);
    out[i] = g / std::max(std::sqrt(after) * s.deviation_correction, s.epsilon);
  }
}

WEIR_EACH_CPU void follow(float rate, std::size_t count, float* __restrict w,
                          const float* __restrict direction) {
#pragma omp simd
  for (std::size_t i = 0; i < count; ++i) w[i] -= rate * direction[i];
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

void check_sizes(const OptimizerConfig& config, const OptimizerStep& step, std::size_t weights,
                 std::size_t gradient, std::span<const std::span<float>> slots) {
  WEIR_ASSERT(gradient == weights && step.applied >= 1);
  WEIR_ASSERT(slots.size() == slot_names(config.kind).size());
  WEIR_ASSERT(
      std::ranges::all_of(slots, [&](std::span<float> slot) { return slot.size() == weights; }));
}

}  // namespace

std::vector<Option> options(OptimizerConfig& config) {
  return {
      {"optimizer.kind", "",
       "how gradients change the weights. lamb scales the step of each matrix and table "
       "by |weights| / |step|, even if nothing decays, but not the step of norms and biases",
       choice(config.kind, kKindNames)},
      {"optimizer.momentum", "", "sgd: momentum", &config.momentum, {0, 0.9999}},
      {"optimizer.nesterov", "",
       "sgd: use Nesterov's momentum: step along the momentum as it will be", &config.nesterov},
      {"optimizer.beta1",
       "",
       "adamw, lamb: decay of the mean; lion: share of the momentum in the sign",
       &config.beta1,
       {0, 0.9999}},
      {"optimizer.beta2",
       "",
       "adamw, lamb: decay of the variance; lion: decay of the momentum. The default is the same "
       "for all; usual values are 0.99 for lion and 0.999 for lamb",
       &config.beta2,
       {0, 0.99999}},
      {"optimizer.epsilon", "", "adamw, lamb: added to the deviation", &config.epsilon, {1e-12, 1}},
      {"optimizer.weight-decay",
       "",
       "weights shrink by this times the learning rate, apart from the gradient (decoupled decay, "
       "with sgd too: a recipe that adds decay to the gradient, as PyTorch's SGD does, needs "
       "1 / (1 - momentum) times as much here). It applies to matrices, the head and a tied "
       "embedding, and not to norms, biases, learned positions and an untied embedding",
       &config.weight_decay,
       {0, 10}},
      {"optimizer.decay-all", "", "norms, biases and tables decay as well", &config.decay_all},
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
    case OptimizerKind::lamb:
      return {"mean", "variance"};
  }
  WEIR_UNREACHABLE();
}

bool has_trust(const OptimizerConfig& config) {
  return config.kind == OptimizerKind::lamb || config.clips_updates;
}

void optimizer_step(const OptimizerConfig& config, const OptimizerStep& step,
                    std::span<float> weights, std::span<const float> gradient,
                    std::span<const std::span<float>> slots) {
  check_sizes(config, step, weights.size(), gradient.size(), slots);
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
    case OptimizerKind::adamw:
      adamw(adam_scalars(config, step), static_cast<float>(step.rate * step.trust), weights.size(),
            weights.data(), gradient.data(), slots[0].data(), slots[1].data());
      return;
    case OptimizerKind::lamb:
      follow(static_cast<float>(step.rate * step.trust), weights.size(), weights.data(),
             gradient.data());
      return;
  }
  WEIR_UNREACHABLE();
}

DirectionSquares optimizer_direction(const OptimizerConfig& config, const OptimizerStep& step,
                                     std::span<const float> weights, std::span<float> gradient,
                                     std::span<const std::span<float>> slots) {
  WEIR_ASSERT(has_trust(config));
  check_sizes(config, step, weights.size(), gradient.size(), slots);
  const AdamScalars scalars = adam_scalars(config, step);
  DirectionSquares squares;
  for (std::size_t begin = 0; begin < weights.size(); begin += kRunElements) {
    const std::size_t count = std::min(kRunElements, weights.size() - begin);
    if (config.clips_updates) {
      std::array<float, kRunElements> update;
      relative_gradient(scalars, count, gradient.data() + begin, slots[1].data() + begin,
                        update.data());
      squares.directions += square_sum(std::span<const float>(update).first(count));
      continue;
    }
    lamb_direction(scalars, count, weights.data() + begin, gradient.data() + begin,
                   slots[0].data() + begin, slots[1].data() + begin);
    squares.weights += square_sum(weights.subspan(begin, count));
    squares.directions += square_sum(gradient.subspan(begin, count));
  }
  return squares;
}

}  // namespace weir::ps
