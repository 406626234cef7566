#include "ps/update/optimizer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

using namespace weir;
using namespace weir::ps;

namespace {

struct State {
  std::vector<float> weights, gradient, first, second;
  explicit State(std::size_t size) : weights(size), gradient(size), first(size), second(size) {}
};

void step(const OptimizerConfig& config, const OptimizerStep& step, State& state, std::size_t begin,
          std::size_t count) {
  const auto part = [&](std::vector<float>& all) { return std::span(all).subspan(begin, count); };
  std::vector<std::span<float>> slots = {part(state.first)};
  if (slot_names(config.kind).size() == 2) slots.push_back(part(state.second));
  if (has_trust(config)) {
    optimizer_direction(config, step, part(state.weights), part(state.gradient), slots);
  }
  optimizer_step(config, step, part(state.weights), part(state.gradient), slots);
}

}  // namespace

TEST_CASE("adamw is algorithm 2 of Loshchilov and Hutter, in f64, within a few roundings a step") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const OptimizerConfig config = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-6, .weight_decay = 0};
  constexpr std::size_t kSize = 1003;
  State state(kSize);
  std::vector<double> w(kSize), m(kSize, 0), v(kSize, 0);
  for (std::size_t i = 0; i < kSize; ++i)
    w[i] = state.weights[i] = static_cast<float>(normal(random));
  for (index_t t = 1; t <= 50; ++t) {
    const double rate = 0.01 / std::sqrt(static_cast<double>(t));
    for (float& g : state.gradient) g = static_cast<float>(1000 * normal(random));
    step(config, {.factor = 0.001, .rate = rate, .applied = t, .weight_decay = 0.1}, state, 0,
         kSize);
    double worst = 0;
    for (std::size_t i = 0; i < kSize; ++i) {
      const double g = 0.001 * static_cast<double>(state.gradient[i]);
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.99 * v[i] + 0.01 * g * g;
      const double mean = m[i] / (1 - std::pow(0.9, t));
      const double variance = v[i] / (1 - std::pow(0.99, t));
      w[i] -= rate * (mean / (std::sqrt(variance) + 1e-6) + 0.1 * w[i]);
      worst = std::max(worst, std::abs(w[i] - static_cast<double>(state.weights[i])));
    }
    CAPTURE(t);
    CHECK(worst < static_cast<double>(t) * 1e-6);
  }
}

TEST_CASE("sgd is the momentum loop in f64, its decay decoupled") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  OptimizerConfig config;
  config.kind = OptimizerKind::sgd;
  config.momentum = 0.8;
  constexpr std::size_t kSize = 517;
  State state(kSize);
  std::vector<double> w(kSize), b(kSize, 0);
  for (std::size_t i = 0; i < kSize; ++i)
    w[i] = state.weights[i] = static_cast<float>(normal(random));
  for (index_t t = 1; t <= 30; ++t) {
    for (float& g : state.gradient) g = static_cast<float>(normal(random));
    step(config, {.factor = 0.5, .rate = 0.1, .applied = t, .weight_decay = 0.01}, state, 0, kSize);
    for (std::size_t i = 0; i < kSize; ++i) {
      b[i] = 0.8 * b[i] + 0.5 * static_cast<double>(state.gradient[i]);
      w[i] -= 0.1 * (b[i] + 0.01 * w[i]);
      CHECK(std::abs(w[i] - static_cast<double>(state.weights[i])) < 2e-5);
    }
  }
}

TEST_CASE("nesterov is Sutskever's: the gradient is taken where the momentum leads") {
  // The function is sum a[i] x[i]^2 / 2. The article keeps a point and a velocity, and takes the
  // gradient at point + momentum velocity, which is where the weights of the usual form are.
  constexpr std::size_t kSize = 7;
  constexpr double kRate = 0.05, kMomentum = 0.9;
  OptimizerConfig config;
  config.kind = OptimizerKind::sgd;
  config.momentum = kMomentum;
  config.nesterov = true;
  State state(kSize);
  std::vector<double> point(kSize), velocity(kSize, 0);
  const auto slope = [](std::size_t i) { return 0.3 + static_cast<double>(i); };
  for (std::size_t i = 0; i < kSize; ++i) {
    state.weights[i] = 1.0F - 0.4F * static_cast<float>(i);
    point[i] = static_cast<double>(state.weights[i]);
  }
  for (index_t t = 1; t <= 60; ++t) {
    CAPTURE(t);
    for (std::size_t i = 0; i < kSize; ++i) {
      state.gradient[i] = static_cast<float>(slope(i)) * state.weights[i];
      velocity[i] =
          kMomentum * velocity[i] - kRate * slope(i) * (point[i] + kMomentum * velocity[i]);
      point[i] += velocity[i];
    }
    step(config, {.factor = 1, .rate = kRate, .applied = t, .weight_decay = 0}, state, 0, kSize);
    for (std::size_t i = 0; i < kSize; ++i) {
      const double expected = point[i] + kMomentum * velocity[i];
      CHECK(std::abs(expected - static_cast<double>(state.weights[i])) < 2e-6);
    }
  }
}

TEST_CASE("lion is algorithm 2 of Chen et al.: in f64 but where the sign is anyone's guess") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  OptimizerConfig config;
  config.kind = OptimizerKind::lion;
  config.beta1 = 0.9;
  config.beta2 = 0.99;
  constexpr std::size_t kSize = 1003;
  State state(kSize);
  std::vector<double> w(kSize), m(kSize, 0);
  for (std::size_t i = 0; i < kSize; ++i)
    w[i] = state.weights[i] = static_cast<float>(normal(random));
  index_t guesses = 0;
  for (index_t t = 1; t <= 50; ++t) {
    CAPTURE(t);
    const double rate = 1e-3 / std::sqrt(static_cast<double>(t));
    for (float& g : state.gradient) g = static_cast<float>(1000 * normal(random));
    step(config, {.factor = 0.001, .rate = rate, .applied = t, .weight_decay = 0.3}, state, 0,
         kSize);
    double worst = 0;
    for (std::size_t i = 0; i < kSize; ++i) {
      const double g = 0.001 * static_cast<double>(state.gradient[i]);
      const double c = 0.9 * m[i] + (1 - 0.9) * g;
      const double update = c > 0 ? 1 : -1;
      w[i] -= rate * (update + 0.3 * w[i]);
      m[i] = 0.99 * m[i] + (1 - 0.99) * g;
      if (std::abs(c) < 1e-6) {
        w[i] = static_cast<double>(state.weights[i]);
        ++guesses;
      }
      worst = std::max(worst, std::abs(w[i] - static_cast<double>(state.weights[i])));
    }
    CHECK(worst < static_cast<double>(t) * 1e-6);
  }
  CHECK(guesses < 10);
}

TEST_CASE("lion leaves a weight alone that has neither gradient nor momentum, but for its decay") {
  OptimizerConfig config;
  config.kind = OptimizerKind::lion;
  State state(3);
  state.weights = {0.5F, -0.25F, 2.0F};
  step(config, {.factor = 1, .rate = 0.1, .applied = 1, .weight_decay = 0}, state, 0, 3);
  CHECK(state.weights == std::vector<float>{0.5F, -0.25F, 2.0F});
  state.gradient = {-0.0F, 1e-30F, -1e30F};
  step(config, {.factor = 1, .rate = 0.5, .applied = 2, .weight_decay = 0}, state, 0, 3);
  CHECK(state.weights == std::vector<float>{0.5F, -0.75F, 2.5F});
}

TEST_CASE("an element gets the same bits wherever it lies") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<OptimizerConfig> configs;
  for (OptimizerKind kind :
       {OptimizerKind::sgd, OptimizerKind::adamw, OptimizerKind::lion, OptimizerKind::lamb}) {
    configs.emplace_back().kind = kind;
  }
  configs.emplace_back().kind = OptimizerKind::sgd;
  configs.back().nesterov = true;
  for (const OptimizerConfig& config : configs) {
    CAPTURE(name_of(config.kind));
    constexpr std::size_t kSize = 257;
    State whole(kSize);
    for (auto* each : {&whole.weights, &whole.gradient, &whole.first}) {
      for (float& value : *each) value = normal(random);
    }
    for (float& value : whole.second) value = std::abs(normal(random));
    State pieces = whole;
    const OptimizerStep scalars = {
        .factor = 0.3, .rate = 0.017, .applied = 3, .weight_decay = 0.01, .trust = 0.7};
    step(config, scalars, whole, 0, kSize);
    for (std::size_t begin = 0, count = 1; begin < kSize;
         begin += count, count = 1 + random() % 40) {
      count = std::min(count, kSize - begin);
      step(config, scalars, pieces, begin, count);
    }
    CHECK(whole.weights == pieces.weights);
    CHECK(whole.first == pieces.first);
    CHECK(whole.second == pieces.second);
  }
}

TEST_CASE("lamb: the squares of weights and directions are exact to double precision") {
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  OptimizerConfig config;
  config.kind = OptimizerKind::lamb;
  constexpr std::size_t kSize = 5003;
  State state(kSize);
  for (auto* each : {&state.weights, &state.gradient}) {
    for (float& value : *each) value = normal(random);
  }
  const std::span<float> slots[] = {state.first, state.second};
  const DirectionSquares squares =
      optimizer_direction(config, {.factor = 1, .rate = 0, .applied = 1, .weight_decay = 0.1},
                          state.weights, state.gradient, slots);
  long double weights = 0, directions = 0;
  for (float w : state.weights) weights += static_cast<long double>(w) * w;
  for (float u : state.gradient) directions += static_cast<long double>(u) * u;
  CHECK(squares.weights == doctest::Approx(static_cast<double>(weights)).epsilon(1e-14));
  CHECK(squares.directions == doctest::Approx(static_cast<double>(directions)).epsilon(1e-14));
  // At the first step a direction is the gradient's sign, and decay.
  for (std::size_t i = 0; i < kSize; ++i) {
    const double rest = static_cast<double>(state.gradient[i] - 0.1F * state.weights[i]);
    CHECK(std::abs(rest) == doctest::Approx(1).epsilon(1e-4));
  }
}
