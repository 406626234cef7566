#include "ps/update/trust.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/ps/simulated_job.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

ServerConfig lamb_config(index_t steps) {
  ServerConfig config = server_config(steps);
  config.optimizer.kind = OptimizerKind::lamb;
  return config;
}

/// What a server sends if every element of parameter p is p + 1 and its direction 2.
DirectionPartials made_partials(const BucketPlan& plan, index_t server) {
  DirectionPartials partials = {.update = 1, .server = server, .weights = {}, .directions = {}};
  for (index_t bucket : plan.buckets_of(server)) {
    for (const Block& block : blocks_of(plan.buckets()[bucket])) {
      const double weight = static_cast<double>(block.parameter) + 1;
      partials.weights.push_back(static_cast<double>(block.count) * weight * weight);
      partials.directions.push_back(static_cast<double>(block.count) * 4);
    }
  }
  return partials;
}

std::vector<double> ratios_of(const BucketPlan& plan, const auto& change) {
  Trust trust(plan, lamb_config(1).optimizer);
  for (index_t server = plan.layout().servers; server-- > 0;) {
    CHECK(!trust.decide());
    DirectionPartials partials = made_partials(plan, server);
    change(partials);
    trust.on_partials(partials);
  }
  const auto ratios = trust.decide();
  REQUIRE(ratios);
  CHECK(!trust.decide());  // the next round has begun
  return *ratios;
}

using Doubles = std::vector<std::vector<double>>;

/// LAMB in f64 from the article's algorithm 2, whole parameters at a time. The gradient is the sum
/// of the contributors' over the count of loss terms.
Doubles plain_lamb(const BucketPlan& plan, const ServerConfig& config, index_t replicas) {
  const OptimizerConfig& o = config.optimizer;
  Doubles weights;
  for (const ParameterSpec& spec : plan.specs()) {
    std::vector<float> initial(spec.element_count());
    initial_weights(spec, config.training.random_seed(), {0, spec.element_count()}, initial);
    weights.emplace_back(initial.begin(), initial.end());
  }
  Doubles mean, variance;
  for (const auto& each : weights) {
    mean.emplace_back(each.size(), 0.0);
    variance.emplace_back(each.size(), 0.0);
  }
  double count = 0;
  for (index_t replica = 0; replica < replicas; ++replica) count += double(700 + replica);
  for (index_t t = 1; t <= config.training.steps; ++t) {
    const double rate = rate_at(config.rate, t, config.training.steps);
    for (std::size_t p = 0; p < weights.size(); ++p) {
      const ParameterSpec& spec = plan.specs()[p];
      const index_t contributors = replicas * spec.units.size();
      std::vector<double> direction;
      double weight_squares = 0, direction_squares = 0;
      for (std::size_t e = 0; e < weights[p].size(); ++e) {
        double g = 0;
        for (index_t c = 0; c < contributors; ++c) {
          g += double(made_up(1000 * t + c, p, e));
        }
        g /= count;
        double& m = mean[p][e];
        double& v = variance[p][e];
        m = o.beta1 * m + (1 - o.beta1) * g;
        v = o.beta2 * v + (1 - o.beta2) * g * g;
        const double r = m / (1 - std::pow(o.beta1, t)) /
                         (std::sqrt(v / (1 - std::pow(o.beta2, t))) + o.epsilon);
        const double w = weights[p][e];
        direction.push_back(r + (spec.decay ? o.weight_decay : 0) * w);
        weight_squares += w * w;
        direction_squares += direction.back() * direction.back();
      }
      const bool adapts = spec.shape.size() > 1;
      const double trust = adapts ? std::sqrt(weight_squares / direction_squares) : 1;
      for (std::size_t e = 0; e < direction.size(); ++e) {
        weights[p][e] -= rate * trust * direction[e];
      }
    }
  }
  return weights;
}

}  // namespace

TEST_CASE("a trust ratio is |w| / |u| of a whole parameter, 1 for norms and biases") {
  for (index_t servers = 1; servers <= 4; ++servers) {
    const BucketPlan plan = plan_of({.servers = servers}, 65536);
    const auto ratios = ratios_of(plan, [](DirectionPartials&) {});
    REQUIRE(ratios.size() == plan.specs().size());
    for (std::size_t p = 0; p < ratios.size(); ++p) {
      CAPTURE(plan.specs()[p].name);
      const bool matrix = plan.specs()[p].shape.size() > 1;
      CHECK(ratios[p] == doctest::Approx(matrix ? (double(p) + 1) / 2 : 1).epsilon(1e-15));
    }
  }
}

TEST_CASE("where weights or directions are all zero the ratio is 1") {
  const BucketPlan plan = plan_of({.servers = 2});
  const std::vector<double> ones(plan.specs().size(), 1);
  const auto zero = [](List<double>& all) { std::ranges::fill(all, 0); };
  CHECK(ratios_of(plan, [&](DirectionPartials& each) { zero(each.weights); }) == ones);
  CHECK(ratios_of(plan, [&](DirectionPartials& each) { zero(each.directions); }) == ones);
}

TEST_CASE("lamb over two servers is algorithm 2 of You et al. in f64, within roundings") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  ServerConfig config = lamb_config(5);
  config.clip.policy = ClipPolicy::none;
  const BucketPlan plan = plan_of({.replicas = 2, .stages = 2, .servers = 2});
  SimulatedJob job(plan, config, seed);
  job.run();
  const Parameters weights = job.weights();
  const Doubles plain = plain_lamb(plan, config, 2);
  ServerConfig adam = config;
  adam.optimizer.kind = OptimizerKind::adamw;
  SimulatedJob other(plan, adam, seed);
  other.run();
  const Parameters by_adam = other.weights();
  for (std::size_t p = 0; p < weights.size(); ++p) {
    CAPTURE(plan.specs()[p].name);
    double worst = 0;
    for (std::size_t e = 0; e < weights[p].size(); ++e) {
      worst = std::max(worst, std::abs(plain[p][e] - double(weights[p][e])));
    }
    CHECK(worst < 2e-6);
    // Norms go as with adamw, to the bit; matrices do not.
    CHECK((weights[p] == by_adam[p]) == (plan.specs()[p].shape.size() == 1));
  }
}

TEST_CASE(
    "update_rms: the rate of a parameter is that of adamw over the root mean square of g / "
    "sqrt(v)") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  ServerConfig config = server_config(6);
  config.clip.policy = ClipPolicy::update_rms;
  const auto gradient = [](index_t update, index_t salt, index_t parameter, index_t element) {
    // Parameter 2 has a spike that v does not know yet.
    const float spike = update == 5 && parameter == 2 ? 40.0F : 1.0F;
    return spike * made_up(1000 * update + salt, parameter, element);
  };
  const BucketPlan plan = plan_of({.replicas = 2, .servers = 2});
  SimulatedJob job(plan, config, seed);
  job.gradient = gradient;
  job.run();
  const BucketPlan other = plan_of({.replicas = 2, .servers = 3}, 65536);
  SimulatedJob again(other, config, seed + 1);
  again.gradient = gradient;
  again.run();
  CHECK(again.weights() == job.weights());

  // The truth in f64, whole parameters at a time: Wortsman et al., algorithm 2.
  const OptimizerConfig& o = config.optimizer;
  const Parameters weights = job.weights();
  const double count = 700 + 701;
  for (std::size_t p = 0; p < weights.size(); ++p) {
    const ParameterSpec& spec = plan.specs()[p];
    CAPTURE(spec.name);
    const auto size = static_cast<std::size_t>(spec.element_count());
    std::vector<float> initial(size);
    initial_weights(spec, config.training.random_seed(), {0, spec.element_count()}, initial);
    std::vector<double> w(initial.begin(), initial.end()), m(size, 0), v(size, 0), g(size);
    double least = 1;
    for (index_t t = 1; t <= config.training.steps; ++t) {
      double squares = 0;
      for (std::size_t e = 0; e < size; ++e) {
        g[e] = 0;
        for (index_t c = 0; c < 2; ++c) {
          g[e] += double(gradient(t, c, p, e)) / count;
        }
        m[e] = o.beta1 * m[e] + (1 - o.beta1) * g[e];
        v[e] = o.beta2 * v[e] + (1 - o.beta2) * g[e] * g[e];
        const double usual = v[e] / (1 - std::pow(o.beta2, t));
        squares += g[e] * g[e] / std::max(usual, o.epsilon * o.epsilon);
      }
      const double clip = 1 / std::max(1.0, std::sqrt(squares / static_cast<double>(size)));
      least = std::min(least, clip);
      const double rate = clip * rate_at(config.rate, t, config.training.steps);
      for (std::size_t e = 0; e < size; ++e) {
        const double mean = m[e] / (1 - std::pow(o.beta1, t));
        const double deviation = std::sqrt(v[e] / (1 - std::pow(o.beta2, t)));
        w[e] -= rate * (mean / (deviation + o.epsilon) + (spec.decay ? o.weight_decay : 0) * w[e]);
      }
    }
    CHECK((least < 0.6) == (p == 2));  // the spike has been clipped
    double worst = 0;
    for (std::size_t e = 0; e < size; ++e) {
      worst = std::max(worst, std::abs(w[e] - double(weights[p][e])));
    }
    CHECK(worst < 2e-6);
  }
}

TEST_CASE("partial sums and trust ratios out of order are refused by name") {
  const BucketPlan plan = plan_of({.servers = 2});
  Trust trust(plan, lamb_config(1).optimizer);
  trust.on_partials(made_partials(plan, 0));
  CHECK_THROWS_WITH_AS(trust.on_partials(made_partials(plan, 0)),
                       doctest::Contains("directions of server 0 for update 1 come twice"), Error);
  DirectionPartials wrong = made_partials(plan, 1);
  wrong.directions.pop_back();
  CHECK_THROWS_AS(trust.on_partials(wrong), Error);
  wrong = made_partials(plan, 1);
  wrong.server = 2;
  CHECK_THROWS_AS(trust.on_partials(wrong), Error);
  wrong.server = -1;
  CHECK_THROWS_AS(trust.on_partials(wrong), Error);

  Server first(plan, 0, lamb_config(3)), second(plan, 1, lamb_config(3));
  CHECK_THROWS_WITH_AS(first.on(made_partials(plan, 1)),
                       doctest::Contains("directions of update 1 while in update 0"), Error);
  CHECK_THROWS_WITH_AS(second.on(made_partials(plan, 1)),
                       doctest::Contains("which is for server 0"), Error);
  CHECK_THROWS_WITH_AS(second.on(TrustRatios{.update = 1, .ratios = {}}),
                       doctest::Contains("server 1 received 0 trust ratios of update 1"), Error);
  CHECK_THROWS_WITH_AS(first.on(TrustRatios{.update = 1, .ratios = {}}),
                       doctest::Contains("which server 0 sends"), Error);
  Server adamw(plan, 0, server_config(3));
  CHECK_THROWS_AS(adamw.on(made_partials(plan, 1)), Error);
}
