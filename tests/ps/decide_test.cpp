#include "ps/decide.hpp"

#include <doctest/doctest.h>

#include "ps/store.hpp"
#include "tests/ps/twin.hpp"

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
      Decider decider(plan, {.clip = {}, .rate = {}, .steps = 10, .batch = 1});
      index_t small_count = 0;
      for (index_t server = 0; server < servers; ++server) {
        Partials partials = {.update = 1, .server = server, .squares = {}};
        for (index_t bucket : plan.buckets_of(server)) {
          for (const Block& block : blocks_of(plan.buckets()[static_cast<std::size_t>(bucket)])) {
            const bool first = block.parameter == 0 && block.begin == 0;
            partials.squares.push_back(first ? kBetween * kBetween : kSmall);
            small_count += first ? 0 : 1;
          }
        }
        decider.on_partials(partials);
      }
      REQUIRE(small_count == 11);
      decider.on_report({.step = 1, .replica = 0, .loss_sum = 1, .count = 1}, 0);
      CHECK(directive_of(decider).norm == 16777216);
    }
  }
}

TEST_CASE("every context of every replica reports, and the loss is the mean over all terms") {
  const BucketPlan plan = plan_of({.replicas = 2, .contexts = 3});
  std::size_t blocks = 0;
  for (const Bucket& bucket : plan.buckets()) blocks += blocks_of(bucket).size();
  Decider decider(plan, {.clip = {}, .rate = {}, .steps = 10, .batch = 1});
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
  CHECK(directive.count == 8);
  CHECK(directive.loss == 2);
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
                           .steps = steps,
                           .batch = 4,
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
      drawn += directive.checkpoint ? 'c' : '-';
      if (directive.stop) drawn += '|';
    }
    return drawn;
  };
  CHECK(checkpoints(3, 7, 0) == "--c--cc|");
  CHECK(checkpoints(3, 6, 0) == "--c--c|");
  CHECK(checkpoints(0, 4, 0) == "---c|");
  CHECK(checkpoints(3, 7, 5) == "--c-c|");
}
