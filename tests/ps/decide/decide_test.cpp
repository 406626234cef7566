#include "ps/decide/decide.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "ps/update/store.hpp"
#include "tests/ps/simulated_job.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

Directive directive_of(Decider& decider) { return std::get<Directive>(decider.decide(0).value()); }

}  // namespace

TEST_CASE("blocks are added in the order of the parameters, whatever the servers and buckets") {
  // 2^24 + 1 lies between two floats and rounds down to the even one. Its square, added first,
  // swallows eleven parts of less than half its last place; added last, it would not.
  constexpr double kBetween = 16777217;
  constexpr double kSmall = 0.03;
  for (index_t servers = 1; servers <= 4; ++servers) {
    for (index_t bytes : {65536, 200000, 1 << 30}) {
      CAPTURE(servers);
      CAPTURE(bytes);
      const BucketPlan plan = plan_of({.servers = servers}, bytes);
      Decider decider(
          plan, {.clip = {}, .rate = {}, .training = {.steps = 10, .batch = 1, .micro_batch = 1}});
      index_t small_count = 0;
      for (index_t server = 0; server < servers; ++server) {
        Partials partials = {.update = 1, .server = server, .squares = {}};
        for (index_t bucket : plan.buckets_of(server)) {
          for (const Block& block : blocks_of(plan.buckets()[bucket])) {
            const bool first = block.parameter == 0 && block.begin == 0;
            partials.squares.push_back(first ? kBetween * kBetween : kSmall);
            small_count += first ? 0 : 1;
          }
        }
        decider.on_partials(partials);
      }
      REQUIRE(small_count == 11);
      decider.on_report({.step = 1, .replica = 0, .loss_sum = 1, .count = 1}, 0);
      CHECK(directive_of(decider).observed.norm == 16777216);
    }
  }
}

TEST_CASE("every context of every replica reports, and the loss is the mean over all terms") {
  const BucketPlan plan = plan_of({.replicas = 2, .contexts = 3});
  std::size_t blocks = 0;
  for (const Bucket& bucket : plan.buckets()) blocks += blocks_of(bucket).size();
  Decider decider(
      plan, {.clip = {}, .rate = {}, .training = {.steps = 10, .batch = 1, .micro_batch = 1}});
  decider.on_partials({.update = 1, .server = 0, .squares = std::vector<double>(blocks, 1.0)});
  for (index_t context : {2, 0, 1}) {
    for (index_t replica : {1, 0}) {
      CHECK(!decider.decide(0));
      // Context 2 holds nothing but padding.
      const index_t count = context == 2 ? 0 : 1 + replica + context;
      decider.on_report({.step = 1,
                         .replica = replica,
                         .context = context,
                         .loss_sum = 2.0 * static_cast<double>(count),
                         .count = count},
                        0);
    }
  }
  const Directive directive = directive_of(decider);
  CHECK(directive.observed.count == 8);
  CHECK(directive.observed.loss == 2);
}

TEST_CASE("a checkpoint is due every so many steps, at the end and with a stop") {
  const BucketPlan plan = plan_of({});
  const std::size_t blocks = [&] {
    std::size_t count = 0;
    for (const Bucket& bucket : plan.buckets()) count += blocks_of(bucket).size();
    return count;
  }();
  const auto checkpoints = [&](index_t every, index_t steps, index_t stop_at) {
    Decider decider(plan, {.clip = {},
                           .rate = {},
                           .training = {.steps = steps, .batch = 4, .micro_batch = 1},
                           .checkpoints = true,
                           .checkpoint_every = every});
    std::string drawn;
    for (index_t step = 1; drawn.find('|') == std::string::npos; ++step) {
      if (step == stop_at) decider.request_stop();
      CHECK(!decider.decide(0));
      decider.on_partials(
          {.update = step, .server = 0, .squares = std::vector<double>(blocks, 1.0)});
      decider.on_report({.step = step, .replica = 0, .loss_sum = 1, .count = 1}, 0);
      const Directive directive = directive_of(decider);
      drawn += directive.order.checkpoint ? 'c' : '-';
      if (directive.order.stop) drawn += '|';
    }
    return drawn;
  };
  CHECK(checkpoints(3, 7, 0) == "--c--cc|");
  CHECK(checkpoints(3, 6, 0) == "--c--c|");
  CHECK(checkpoints(0, 4, 0) == "---c|");
  CHECK(checkpoints(3, 7, 5) == "--c-c|");
}

TEST_CASE("norms of layers: each element once, cut or held by several, and all squares together") {
  for (const Layout& layout : {Layout{},
                               {.replicas = 2, .stages = 2, .servers = 3},
                               {.shards = 3, .servers = 2},
                               {.stages = 2, .shards = 2}}) {
    CAPTURE(layout.arithmetic());
    const BucketPlan plan = plan_of(layout);
    ServerConfig config = server_config(1);
    config.norms = Norms::layers;
    SimulatedJob job(plan, config, 1);
    job.gradient = [](index_t, index_t, index_t, index_t) { return 2.0F; };
    job.run();
    // Contributors: a replica each, of the tied embedding both its stages, of a norm all shards.
    const auto replicas = static_cast<double>(layout.replicas);
    const double count = layout.replicas == 1 ? 700 : 1401;
    const double of_one = 2 * replicas / count;
    const double embedding = (layout.stages > 1 ? 2 : 1) * of_one * std::sqrt(501.0 * 67);
    const double norm = static_cast<double>(layout.shards) * of_one * std::sqrt(67.0);
    const double layer = std::hypot(norm, of_one * std::sqrt(134.0 * 67 + 268 * 67));
    const std::vector<double> expected = {embedding, layer, layer, norm};
    const Directive& directive = job.directives.back();
    REQUIRE(directive.observed.layer_norms.size() == expected.size());
    double squares = 0;
    for (std::size_t at = 0; at < expected.size(); ++at) {
      CAPTURE(at);
      CHECK(directive.observed.layer_norms[at] == doctest::Approx(expected[at]).epsilon(1e-7));
      squares += directive.observed.layer_norms[at] * directive.observed.layer_norms[at];
    }
    CHECK(directive.observed.norm == doctest::Approx(std::sqrt(squares)).epsilon(1e-7));
  }
  const std::vector<std::string> names = {"embedding", "layers.1", "layers.2", "final_norm"};
  CHECK(layer_groups(small_parameters()).names == names);
}
