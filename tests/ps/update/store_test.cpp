#include "ps/update/store.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/error.hpp"
#include "ps/decide/decide.hpp"
#include "tests/ps/twin.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

std::vector<index_t> replicas_of(const BucketPlan& plan) {
  std::vector<index_t> all(plan.layout().replicas);
  std::iota(all.begin(), all.end(), index_t{0});
  return all;
}

void contribute(const BucketPlan& plan, Store& store, index_t bucket, index_t contributor) {
  const std::span<float> floats = store.contribution(bucket, contributor);
  for (const Segment& segment : plan.buckets()[bucket].segments) {
    for (index_t i = 0; i < segment.range.count(); ++i) {
      floats[segment.offset + i] = made_up(contributor, segment.parameter, segment.range.begin + i);
    }
  }
}

/// All contributions in an order of their own, then all sums.
std::vector<double> summed(const BucketPlan& plan, Store& store, std::mt19937& random) {
  std::vector<std::pair<index_t, index_t>> order;
  for (index_t bucket : store.buckets()) {
    for (index_t each = 0; each < store.contributor_count(bucket); ++each) {
      order.emplace_back(bucket, each);
    }
  }
  std::ranges::shuffle(order, random);
  for (const auto& [bucket, contributor] : order) {
    contribute(plan, store, bucket, contributor);
    if (store.arrived(bucket, contributor)) store.sum(bucket, replicas_of(plan));
  }
  return store.partials();
}

}  // namespace

TEST_CASE("sums are those of f64 within roundings, and the same bits for any order of arrival") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const BucketPlan plan = plan_of({.replicas = 5, .stages = 2, .servers = 2});
  for (index_t server = 0; server < 2; ++server) {
    Store first(plan, server, OptimizerConfig(), 1);
    Store second(plan, server, OptimizerConfig(), 1);
    const std::vector<double> partials = summed(plan, first, random);
    CHECK(summed(plan, second, random) == partials);
    for (index_t bucket : first.buckets()) {
      const auto left = first.contribution(bucket, 0);
      const auto right = second.contribution(bucket, 0);
      CHECK(std::ranges::equal(left, right));
      for (const Segment& segment : plan.buckets()[bucket].segments) {
        for (index_t i = 0; i < segment.range.count(); i += 13) {
          double exact = 0, magnitude = 0;
          for (index_t each = 0; each < first.contributor_count(bucket); ++each) {
            const double part = made_up(each, segment.parameter, segment.range.begin + i);
            exact += part;
            magnitude += std::abs(part);
          }
          const double value = left[segment.offset + i];
          CHECK(std::abs(value - exact) <= 10 * 6e-8 * magnitude);
        }
      }
    }
  }
}

TEST_CASE("the norm has the same bits for any servers and buckets, and is the exact one in float") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (index_t shards = 1; shards <= 2; ++shards) {
    std::vector<double> norms;
    double exact = 0;
    for (index_t servers = 1; servers <= 4; ++servers) {
      for (index_t bytes : {65536, 131072, 400000, 1 << 30}) {
        const BucketPlan plan =
            plan_of({.replicas = 2, .stages = 2, .shards = shards, .servers = servers}, bytes);
        Decider decider(
            plan,
            {.clip = {}, .rate = {}, .training = {.steps = 10, .batch = 1, .micro_batch = 1}});
        long double total = 0;
        for (index_t server = 0; server < servers; ++server) {
          Store store(plan, server, OptimizerConfig(), 1);
          decider.on_partials(
              {.update = 1, .server = server, .squares = summed(plan, store, random)});
          for (index_t bucket : store.buckets()) {
            for (float value : store.contribution(bucket, 0)) {
              total += static_cast<long double>(value) * static_cast<long double>(value);
            }
          }
        }
        decider.on_report({.step = 1, .replica = 0, .loss_sum = 1, .count = 30}, 0);
        decider.on_report({.step = 1, .replica = 1, .loss_sum = 1, .count = 31}, 0);
        norms.push_back(std::get<Directive>(decider.decide(0).value()).observed.norm);
        exact = static_cast<double>(std::sqrt(total) / 61);
      }
    }
    for (double norm : norms) CHECK(norm == norms.front());
    CHECK(norms.front() == static_cast<double>(static_cast<float>(norms.front())));
    CHECK(std::abs(norms.front() - exact) <= 6.1e-8 * exact);  // half a unit of float
  }
}

TEST_CASE("initial weights are those of the spec, whatever the layout") {
  for (index_t servers = 1; servers <= 3; ++servers) {
    const BucketPlan plan = plan_of({.stages = 2, .shards = 2, .servers = servers});
    for (index_t server = 0; server < servers; ++server) {
      const Store store(plan, server, OptimizerConfig(), 77);
      for (index_t bucket : store.buckets()) {
        for (const Segment& segment : plan.buckets()[bucket].segments) {
          const auto& spec = plan.specs()[segment.parameter];
          std::vector<float> whole(spec.element_count());
          initial_weights(spec, 77, {0, spec.element_count()}, whole);
          CHECK(std::equal(whole.begin() + segment.range.begin, whole.begin() + segment.range.end,
                           store.weights(bucket).begin() + segment.offset));
        }
      }
    }
  }
}

TEST_CASE("with one server and one holder the arenas lie as the holder's") {
  const BucketPlan plan = plan_of({});
  Store store(plan, 0, OptimizerConfig(), 1);
  const Holding& holding = plan.holding({});
  CHECK(store.weight_arena().size() == static_cast<std::size_t>(holding.element_count));
  for (const HeldBucket& held : holding.buckets) {
    CHECK(store.weights(held.bucket).data() == store.weight_arena().data() + held.offset);
    CHECK(store.contribution(held.bucket, 0).data() == store.gradient_arena().data() + held.offset);
  }
}

TEST_CASE("places of contributions never overlap") {
  const BucketPlan plan = plan_of({.replicas = 3, .stages = 2, .servers = 2}, 65536);
  Store store(plan, 0, OptimizerConfig(), 1);
  std::vector<std::pair<const float*, const float*>> runs;
  for (index_t bucket : store.buckets()) {
    for (index_t each = 0; each < store.contributor_count(bucket); ++each) {
      const auto place = store.contribution(bucket, each);
      runs.emplace_back(place.data(), place.data() + place.size());
    }
  }
  std::ranges::sort(runs);
  for (std::size_t i = 1; i < runs.size(); ++i) CHECK(runs[i - 1].second <= runs[i].first);
}

TEST_CASE("a directive of another update, or before the sum, is refused") {
  const BucketPlan plan = plan_of({});
  Store store(plan, 0, OptimizerConfig(), 1);
  const index_t bucket = store.buckets().front();
  CHECK_THROWS_WITH_AS(store.apply(bucket, Directive{.update = 1, .step = 1}),
                       doctest::Contains("waits for contributions"), Error);
  store.arrived(bucket, 0);
  store.sum(bucket, replicas_of(plan));
  CHECK_THROWS_WITH_AS(store.apply(bucket, Directive{.update = 2, .step = 1}),
                       doctest::Contains("out of order"), Error);
  store.apply(bucket,
              Directive{.update = 1, .step = 1, .replicas = {.contributors = replicas_of(plan)}});
  CHECK(store.update(bucket) == 2);
  CHECK(store.accepts(bucket, 0));
}
