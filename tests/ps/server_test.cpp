#include "ps/server.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/ps/simulated_job.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }

void check_same(const std::vector<Directive>& left, const std::vector<Directive>& right) {
  REQUIRE(left.size() == right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    CAPTURE(i);
    CHECK(left[i].step == right[i].step);
    CHECK(left[i].cursor == right[i].cursor);
    CHECK(bits(left[i].rule.factor) == bits(right[i].rule.factor));
    CHECK(bits(left[i].rule.rate) == bits(right[i].rule.rate));
    CHECK(bits(left[i].observed.loss) == bits(right[i].observed.loss));
    CHECK(bits(left[i].observed.norm) == bits(right[i].observed.norm));
    CHECK(bits(left[i].observed.threshold) == bits(right[i].observed.threshold));
    CHECK(left[i].observed.skipped_count == right[i].observed.skipped_count);
    CHECK(left[i].order.stop == right[i].order.stop);
  }
}

/// Norms above and below the threshold by turns.
float up_and_down(index_t update, index_t salt, index_t parameter, index_t element) {
  const float scale = update % 3 == 0 ? 0.5F : 1.5F;
  return scale * made_up(1000 * update + salt, parameter, element);
}

/// The whole training in f64, from the formulas alone: sums, norm, clip (decay), AdamW.
struct PlainTraining {
  std::vector<std::vector<double>> weights, mean, variance;
  std::vector<double> norms, thresholds;
};

PlainTraining plain_training(const BucketPlan& plan, const ServerConfig& config, index_t replicas,
                             index_t contributors_of_tied) {
  PlainTraining run;
  for (const ParameterSpec& spec : plan.specs()) {
    std::vector<float> initial(spec.element_count());
    initial_weights(spec, config.training.random_seed(), {0, spec.element_count()}, initial);
    run.weights.emplace_back(initial.begin(), initial.end());
    run.mean.emplace_back(initial.size(), 0.0);
    run.variance.emplace_back(initial.size(), 0.0);
  }
  double threshold = config.clip.initial;
  for (index_t step = 1; step <= config.training.steps; ++step) {
    double count = 0;
    for (index_t replica = 0; replica < replicas; ++replica) {
      count += static_cast<double>(700 + replica);
    }
    std::vector<std::vector<double>> gradient;
    double squares = 0;
    for (index_t p = 0; p < plan.specs().size(); ++p) {
      const index_t contributors =
          replicas * (plan.specs()[p].units.size() > 1 ? contributors_of_tied : 1);
      gradient.emplace_back(run.weights[p].size(), 0.0);
      for (std::size_t e = 0; e < gradient[p].size(); ++e) {
        for (index_t c = 0; c < contributors; ++c) {
          gradient[p][e] += static_cast<double>(up_and_down(step, c, p, e));
        }
        gradient[p][e] /= count;
        squares += gradient[p][e] * gradient[p][e];
      }
    }
    const double norm = std::sqrt(squares);
    double coefficient = 1;
    if (norm > threshold) {
      threshold *= 0.99;
      coefficient = threshold / norm;
    } else {
      threshold = std::min(1.0, threshold / 0.99);
    }
    run.norms.push_back(norm);
    run.thresholds.push_back(threshold);
    const double rate = rate_at(config.rate, step, config.training.steps);
    for (index_t p = 0; p < plan.specs().size(); ++p) {
      const bool decays = plan.specs()[p].decay || config.optimizer.decay_all;
      const double decay = decays ? config.optimizer.weight_decay : 0;
      for (std::size_t e = 0; e < gradient[p].size(); ++e) {
        const double g = coefficient * gradient[p][e];
        double& m = run.mean[p][e];
        double& v = run.variance[p][e];
        double& w = run.weights[p][e];
        m = config.optimizer.beta1 * m + (1 - config.optimizer.beta1) * g;
        v = config.optimizer.beta2 * v + (1 - config.optimizer.beta2) * g * g;
        const double t = static_cast<double>(step);
        w -= rate * (m / (1 - std::pow(config.optimizer.beta1, t)) /
                         (std::sqrt(v / (1 - std::pow(config.optimizer.beta2, t))) +
                          config.optimizer.epsilon) +
                     decay * w);
      }
    }
  }
  return run;
}

}  // namespace

TEST_CASE("a server trains as the formulas say: sum, mean, clip, AdamW") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  ServerConfig config = server_config(6);
  config.clip.initial = 0.65;
  const BucketPlan plan = plan_of({.replicas = 2, .stages = 2, .servers = 2});
  SimulatedJob job(plan, config, seed);
  job.gradient = up_and_down;
  job.run();
  const PlainTraining plain = plain_training(plan, config, 2, 2);
  REQUIRE(job.directives.size() == 7);
  for (std::size_t step = 1; step <= 6; ++step) {
    const Directive& directive = job.directives[step];
    CHECK(directive.observed.norm == doctest::Approx(plain.norms[step - 1]).epsilon(1e-6));
    CHECK(directive.observed.threshold ==
          doctest::Approx(plain.thresholds[step - 1]).epsilon(1e-12));
    CHECK(directive.observed.count == 1401);
    CHECK(directive.observed.loss == doctest::Approx(200.0 / static_cast<double>(step) / 1401));
    CHECK(directive.cursor == static_cast<index_t>(8 * step));
    CHECK(directive.order.stop == (step == 6));
    CHECK(!directive.order.checkpoint);  // there is no folder for it
  }
  const Parameters weights = job.weights();
  double worst = 0;
  for (std::size_t p = 0; p < weights.size(); ++p) {
    for (std::size_t e = 0; e < weights[p].size(); ++e) {
      worst = std::max(worst, std::abs(plain.weights[p][e] - static_cast<double>(weights[p][e])));
    }
  }
  CHECK(worst < 1e-5);
  const auto clipped = std::ranges::count_if(
      job.directives, [](const Directive& each) { return each.observed.clipped; });
  CHECK(clipped == 4);
}

TEST_CASE("with decay-all norms shrink as the formula says, matrices as before") {
  ServerConfig config = server_config(6);
  config.clip.initial = 0.65;
  const BucketPlan plan = plan_of({.replicas = 2, .stages = 2, .servers = 2});
  SimulatedJob usual(plan, config, 1);
  usual.gradient = up_and_down;
  usual.run();
  config.optimizer.decay_all = true;
  SimulatedJob job(plan, config, 1);
  job.gradient = up_and_down;
  job.run();
  const PlainTraining plain = plain_training(plan, config, 2, 2);
  const Parameters weights = job.weights();
  for (std::size_t p = 0; p < weights.size(); ++p) {
    CAPTURE(plan.specs()[p].name);
    double worst = 0;
    for (std::size_t e = 0; e < weights[p].size(); ++e) {
      worst = std::max(worst, std::abs(plain.weights[p][e] - static_cast<double>(weights[p][e])));
    }
    CHECK(worst < 1e-5);
    CHECK((weights[p] == usual.weights()[p]) == plan.specs()[p].decay);
  }
}

TEST_CASE("the same bits for any number of servers, bucket size and order of arrival") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (index_t stages = 1; stages <= 2; ++stages) {
    for (index_t shards = 1; shards <= 2; ++shards) {
      CAPTURE(stages);
      CAPTURE(shards);
      const Layout layout = {.replicas = 3, .stages = stages, .shards = shards, .servers = 1};
      const BucketPlan one = plan_of(layout);
      SimulatedJob expected(one, server_config(3), seed);
      expected.run();
      const Parameters weights = expected.weights();
      for (index_t servers = 1; servers <= 4; ++servers) {
        for (index_t bytes : {65536, 300000, 1 << 30}) {
          CAPTURE(servers);
          CAPTURE(bytes);
          Layout spread = layout;
          spread.servers = servers;
          const BucketPlan plan = plan_of(spread, bytes);
          SimulatedJob job(plan, server_config(3), static_cast<unsigned>(random()));
          job.run();
          check_same(job.directives, expected.directives);
          CHECK(job.weights() == weights);
        }
      }
    }
  }
}

TEST_CASE("a hundred jobs of four replicas in which all comes in another order: the same bits") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const BucketPlan plan = plan_of({.replicas = 4, .servers = 2});
  SimulatedJob expected(plan, server_config(3), seed);
  expected.run();
  for (int run = 0; run < 100; ++run) {
    SimulatedJob job(plan, server_config(3), static_cast<unsigned>(random()));
    const auto slow = static_cast<index_t>(random() % 4);
    job.held_up = [&](index_t replica) { return replica == slow && random() % 8 > 0; };
    job.run();
    REQUIRE(job.weights() == expected.weights());
  }
}

TEST_CASE("every optimizer: the same bits for any number of servers and bucket size") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::vector<Parameters> ends;
  for (const OptimizerConfig& optimizer : every_optimizer()) {
    CAPTURE(name_of(optimizer.kind));
    ServerConfig config = server_config(4);
    config.optimizer = optimizer;
    Layout layout = {.replicas = 2, .stages = 2, .servers = 1};
    const BucketPlan one = plan_of(layout);
    SimulatedJob expected(one, config, seed);
    expected.run();
    ends.push_back(expected.weights());
    for (layout.servers = 1; layout.servers <= 4; ++layout.servers) {
      for (index_t bytes : {65536, 300000, 1 << 30}) {
        CAPTURE(layout.servers);
        CAPTURE(bytes);
        const BucketPlan plan = plan_of(layout, bytes);
        SimulatedJob job(plan, config, static_cast<unsigned>(random()));
        job.run();
        CHECK(job.weights() == ends.back());
      }
    }
  }
  for (std::size_t i = 0; i < ends.size(); ++i) {  // and each has an end of its own
    for (std::size_t j = 0; j < i; ++j) CHECK(ends[i] != ends[j]);
  }
}

TEST_CASE("a spike is skipped by every server, and clips by parameter have the same bits") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  const auto spiky = [](index_t update, index_t salt, index_t parameter, index_t element) {
    return (update == 60 ? 50.0F : 1.0F) * made_up(1000 * update + salt, parameter, element);
  };
  for (const ClipPolicy policy : {ClipPolicy::robust, ClipPolicy::per_tensor}) {
    ServerConfig config = server_config(110);
    config.clip.policy = policy;
    const BucketPlan one = plan_of({.replicas = 2});
    SimulatedJob expected(one, config, seed);
    expected.gradient = spiky;
    expected.run();
    const BucketPlan three = plan_of({.replicas = 2, .servers = 3}, 100000);
    SimulatedJob job(three, config, seed + 1);
    job.gradient = spiky;
    job.run();
    CHECK(job.weights() == expected.weights());
    check_same(job.directives, expected.directives);
    const Directive& spike = job.directives[60];
    CHECK((spike.rule.skip == SkipReason::spike) == (policy == ClipPolicy::robust));
    CHECK(job.directives[110].rule.factors.empty() == (policy == ClipPolicy::robust));
  }
}

TEST_CASE("one element that is not finite: every server skips, and nothing else changes a bit") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.replicas = 2, .servers = 3});
  // Two updates behind each other, with and without a bad one between them.
  SimulatedJob good(plan, server_config(9), seed);
  good.run(2);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    CAPTURE(bad);
    SimulatedJob job(plan, server_config(9), seed + 1);
    job.gradient = [&](index_t update, index_t salt, index_t parameter, index_t element) {
      if (update == 3 && salt == 1 && parameter == 3 && element == 17955) return bad;
      return made_up(1000 * update + salt, parameter, element);
    };
    job.run(3);
    CHECK(job.directives[3].rule.skip == SkipReason::not_finite);
    CHECK(job.directives[3].observed.skipped_count == 1);
    CHECK(job.directives[3].step == 3);
    CHECK(job.directives[3].cursor == 24);
    CHECK(bits(job.directives[3].observed.threshold) ==
          bits(good.directives[2].observed.threshold));
    CHECK(job.weights() == good.weights());
  }
  SimulatedJob loss(plan, server_config(9), seed + 2);
  loss.loss_sum = [](index_t update) { return update == 3 ? std::nan("") : 1.0; };
  loss.run(3);
  CHECK(loss.directives[3].rule.skip == SkipReason::not_finite);
  CHECK(loss.weights() == good.weights());
}

TEST_CASE(
    "a skipped step leaves no trace in the moments: later steps are those of a run without it") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.servers = 2});
  ServerConfig config = server_config(9);
  config.rate = {.schedule = RateSchedule::constant, .peak = 0.01};
  SimulatedJob without(plan, config, 1);
  without.gradient = [](index_t update, index_t salt, index_t parameter, index_t element) {
    return made_up(1000 * update + salt, parameter, element);
  };
  without.run(3);
  SimulatedJob with(plan, config, 2);
  with.gradient = [](index_t update, index_t salt, index_t parameter, index_t element) {
    if (update == 2) return std::nanf("");
    return made_up(1000 * (update > 2 ? update - 1 : update) + salt, parameter, element);
  };
  with.run(4);
  CHECK(with.weights() == without.weights());
}

TEST_CASE("fifty skips in a row end the job with a reason") {
  const BucketPlan plan = plan_of({});
  const QuietLog quiet;
  SimulatedJob job(plan, server_config(100), 3);
  job.loss_sum = [](index_t) { return std::nan(""); };
  CHECK_THROWS_WITH_AS(job.run(), doctest::Contains("the last 50 steps up to step 50"), Error);
}

TEST_CASE("a stop is the next directive's, and reaches every server") {
  const BucketPlan plan = plan_of({.replicas = 2, .servers = 3});
  SimulatedJob job(plan, server_config(1000), 4);
  job.run(2);
  job.servers[0]->on(Stop{});
  SimulatedJob again(plan, server_config(1000), 4);
  again.servers[0]->on(Stop{});
  again.run();
  CHECK(again.directives.size() == 2);
  CHECK(again.directives.back().order.stop);
  CHECK(again.directives.back().step == 1);
  for (const auto& server : again.servers) {
    CHECK(server->done());
    CHECK(server->step() == 1);
  }
}

TEST_CASE("what comes out of order is refused by name") {
  const BucketPlan plan = plan_of({.replicas = 2, .servers = 2});
  Server first(plan, 0, server_config(3));
  Server second(plan, 1, server_config(3));
  const index_t bucket = first.buckets().front();
  first.on_contribution(bucket, 1);
  CHECK_THROWS_WITH_AS(first.on_contribution(bucket, 1), doctest::Contains("already arrived"),
                       Error);
  first.on_contribution(bucket, 0);
  CHECK(!first.accepts(bucket, 0));
  CHECK_THROWS_WITH_AS(first.on_contribution(bucket, 0), doctest::Contains("already arrived"),
                       Error);
  CHECK_THROWS_WITH_AS(second.on(Directive{.update = 1, .step = 1}),
                       doctest::Contains("received the directive of update 1"), Error);
  CHECK_THROWS_WITH_AS(first.on(Directive{.update = 1, .step = 1}),
                       doctest::Contains("server 0 received a directive"), Error);
  CHECK_THROWS_WITH_AS(second.on(Report{.step = 1}), doctest::Contains("which is for server 0"),
                       Error);
  CHECK_THROWS_WITH_AS(first.on(Report{.step = 2, .replica = 0, .count = 1}),
                       doctest::Contains("came in step 1"), Error);
  first.on(Report{.step = 1, .replica = 0, .count = 1});
  CHECK_THROWS_AS(first.on(Report{.step = 1, .replica = 0, .count = 1}), Error);
  CHECK_THROWS_AS(first.on(Report{.step = 1, .replica = 2, .count = 1}), Error);
  CHECK_THROWS_AS(first.on(Report{.step = 1, .replica = -1, .count = 1}), Error);
  CHECK_THROWS_AS(first.on(Report{.step = 1, .replica = 1, .count = -1}), Error);
  CHECK_THROWS_AS(first.on(Report{.step = 1, .replica = 0, .context = 1, .count = 1}), Error);
  CHECK_THROWS_AS(first.on(Partials{.update = 1, .server = 1, .squares = {1.0}}), Error);
  CHECK_THROWS_AS(first.on(Partials{.update = 1, .server = 5, .squares = {}}), Error);
}

TEST_CASE("an update without loss terms is an error, not a division by zero") {
  const BucketPlan plan = plan_of({});
  Server server(plan, 0, server_config(3));
  for (index_t bucket : server.buckets()) server.on_contribution(bucket, 0);
  server.on(Report{.step = 1, .replica = 0, .count = 0});
  CHECK_THROWS_WITH_AS(while (server.poll()){}, doctest::Contains("no loss terms"), Error);
}
