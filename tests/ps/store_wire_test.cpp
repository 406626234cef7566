#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "common/number/random.hpp"
#include "common/number/vector.hpp"
#include "common/wire/narrow.hpp"
#include "ps/save/residuals.hpp"
#include "ps/update/store.hpp"
#include "tests/ps/twin.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

BucketPlan plan_with(const WireConfig& wire, Dtype weights = Dtype::f32) {
  return BucketPlan(small_parameters(), {0, 0, 1, 1}, {.replicas = 3, .stages = 2, .servers = 2},
                    1 << 17, wire, weights);
}

std::vector<float> decoded(const Wire& wire, std::span<const std::byte> frame, index_t count) {
  std::vector<float> values(count);
  decode(wire, frame, values);
  return values;
}

const std::vector<index_t> kAll = {0, 1, 2};  // replicas

const WireConfig kWires[] = {{.push = {}, .pull = {WireFormat::bf16}},
                             {.push = {WireFormat::bf16}, .pull = {}},
                             {.push = {WireFormat::fp16}, .pull = {}},
                             {.push = {WireFormat::int8}, .pull = {}},
                             {.push = {WireFormat::topk, 5}, .pull = {WireFormat::bf16}}};

/// How weights get to their readers.
struct Pull {
  WireConfig wire;
  Dtype weights = Dtype::f32;
};

}  // namespace

TEST_CASE("sums are those of what arrived, decoded and added in f32 in the contributors' order") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (const WireConfig& wire : kWires) {
    CAPTURE(int(wire.push.format));
    const BucketPlan plan = plan_with(wire);
    for (index_t server = 0; server < 2; ++server) {
      Store store(plan, server, OptimizerConfig(), 1);
      std::vector<double> expected;
      for (index_t index : store.buckets()) {
        const Bucket& bucket = plan.buckets()[index];
        const index_t a_replica = std::ssize(bucket.contributors);
        std::vector<index_t> order;
        std::vector<float> total(bucket.element_count);
        for (index_t each = 0; each < store.contributor_count(index); ++each) {
          order.push_back(each);
          std::vector<float> values(total.size());
          fill_normal(values, 7, static_cast<std::uint64_t>(100 * index + each), 0, 1);
          std::vector<float> residual(wire.push.keeps_residual() ? total.size() : 0);
          const auto frame = store.contribution_frame(index, each);
          encode(wire.push, values, residual, frame);
          const std::vector<float> read = decoded(wire.push, frame, bucket.element_count);
          if (each < a_replica) continue;  // replica 0 is late, and not in this update
          for (std::size_t i = 0; i < total.size(); ++i) {
            total[i] = each == a_replica ? read[i] : total[i] + read[i];
          }
        }
        std::ranges::shuffle(order, random);
        for (index_t each : order) store.arrived(index, each);
        store.sum(index, std::vector<index_t>{1, 2});
        for (const Block& block : blocks_of(bucket)) {
          expected.push_back(square_sum(std::span(total).subspan(block.offset, block.count)));
        }
      }
      CHECK(store.partials() == expected);
    }
  }
}

TEST_CASE(
    "what readers get are the weights as they are after each step, in their dtype or the pull's "
    "format") {
  std::vector<Pull> pulls = {
      {.wire = {}, .weights = Dtype::bf16},
      {.wire = {.push = {WireFormat::int8}, .pull = {}}, .weights = Dtype::fp16}};
  for (const WireConfig& wire : kWires) pulls.push_back({wire});
  for (const auto& [wire, dtype] : pulls) {
    const BucketPlan plan = plan_with(wire, dtype);
    Store store(plan, 0, OptimizerConfig(), 1);
    const auto check = [&](index_t index) {
      const auto weights = store.weights(index);
      std::vector<std::byte> frame(plan.pulled_bytes(index));
      if (wire.pull.is_raw()) {
        round_to(weights, Vector(frame.data(), dtype, MemoryKind::host, std::ssize(weights)));
      } else {
        encode(wire.pull, weights, {}, frame);
      }
      CHECK(std::ranges::equal(store.weight_frame(index), frame));
    };
    for (index_t index : store.buckets()) check(index);
    for (index_t index : store.buckets()) {
      std::ranges::fill(store.mutable_weights(index), 1.37F);  // as a checkpoint is loaded
    }
    store.begin_with(5);
    for (index_t index : store.buckets()) check(index);
    for (index_t index : store.buckets()) {
      const index_t count = plan.buckets()[index].element_count;
      for (index_t each = 0; each < store.contributor_count(index); ++each) {
        std::vector<float> values(count, 0.5F);
        std::vector<float> residual(wire.push.keeps_residual() ? values.size() : 0);
        encode(wire.push, values, residual, store.contribution_frame(index, each));
        if (store.arrived(index, each)) store.sum(index, kAll);
      }
      const std::vector<float> before(store.weights(index).begin(), store.weights(index).end());
      store.apply(index, {.update = 5,
                          .step = 5,
                          .replicas = {.contributors = kAll},
                          .rule = {.factor = 1, .rate = 0.1}});
      CHECK_FALSE(std::ranges::equal(before, store.weights(index)));
      check(index);
    }
  }
}

TEST_CASE("places of encoded contributions never overlap, and are as long as promised") {
  const BucketPlan plan = plan_with({.push = {WireFormat::int8}, .pull = {WireFormat::bf16}});
  Store store(plan, 0, OptimizerConfig(), 1);
  std::vector<std::pair<const std::byte*, const std::byte*>> runs;
  for (index_t index : store.buckets()) {
    const index_t count = plan.buckets()[index].element_count;
    for (index_t each = 0; each < store.contributor_count(index); ++each) {
      const auto place = store.contribution_frame(index, each);
      CHECK(std::ssize(place) == plan.wire().push.bytes(count));
      runs.emplace_back(place.data(), place.data() + place.size());
    }
    const auto sent = store.weight_frame(index);
    CHECK(std::ssize(sent) == 2 * count + 2 * (count % 2));
    runs.emplace_back(sent.data(), sent.data() + sent.size());
  }
  std::ranges::sort(runs);
  for (std::size_t i = 1; i < runs.size(); ++i) CHECK(runs[i - 1].second <= runs[i].first);
}

TEST_CASE(
    "each contributor to each bucket has a residual, and a record a parameter and contributor") {
  const BucketPlan plan = plan_with({.push = {WireFormat::int8}, .pull = {}});
  std::vector<std::pair<const float*, const float*>> runs;
  for (index_t server = 0; server < 2; ++server) {
    Residuals residuals(plan, server);
    CHECK(residuals.kept());
    index_t count = 0;
    runs.clear();
    for (index_t index : plan.buckets_of(server)) {
      const Bucket& bucket = plan.buckets()[index];
      for (index_t each = 0; each < 3 * std::ssize(bucket.contributors); ++each, ++count) {
        const auto of = residuals.of(index, each);
        CHECK(std::ssize(of) == bucket.element_count);
        CHECK(std::ranges::all_of(of, [](float value) { return value == 0; }));
        runs.emplace_back(of.data(), of.data() + of.size());
      }
    }
    CHECK(residuals.count() == count);
    std::ranges::sort(runs);
    for (std::size_t i = 1; i < runs.size(); ++i) CHECK(runs[i - 1].second <= runs[i].first);
  }
  const List<CheckpointRecord> records = residual_records(plan);
  const std::vector<index_t> first = first_residual_records(plan);
  // The embedding is tied: of each of 3 replicas the first and the last stage contribute.
  REQUIRE(records.size() == 3 * (plan.specs().size() + 1));
  CHECK(plan.specs()[0].name == "embedding");
  CHECK(records[3].name == "/residual/1.1/embedding");
  CHECK(first[1] == 6);
  CHECK(records[7].name == "/residual/1.0/layers.1.norm");
  CHECK(records[7].shape == std::vector<index_t>{67});

  // Those of pulls come first, one a parameter.
  const BucketPlan both = plan_with({.push = {WireFormat::int8}, .pull = {WireFormat::int8}});
  const List<CheckpointRecord> all = residual_records(both);
  const index_t parameters = both.specs().size();
  REQUIRE(all.size() == parameters + records.size());
  CHECK(all[0].name == "/residual/pull/embedding");
  CHECK(all[parameters].name == records[0].name);
  CHECK(first_residual_records(both)[1] == parameters + first[1]);

  const BucketPlan raw = plan_with({});
  CHECK_FALSE(Residuals(raw, 0).kept());
  CHECK(residual_records(raw).empty());
}

TEST_CASE("weights of two bytes take half of what f32 ones take, to the byte") {
  const BucketPlan plan = plan_with({});
  for (const Dtype dtype : {Dtype::bf16, Dtype::fp16}) {
    const BucketPlan low = plan_with({}, dtype);
    const Store store(low, 0, OptimizerConfig(), 1);
    for (index_t index : store.buckets()) {
      CHECK(2 * std::ssize(store.weight_frame(index)) == plan.pulled_bytes(index));
    }
    CHECK(low.digest() != plan.digest());
  }
}

TEST_CASE("a store steps its own f32 weights and rounds them to the places that it is given") {
  const BucketPlan plan(small_parameters(), {0, 0, 0, 0}, {}, 1 << 17, {}, Dtype::bf16);
  const index_t count = plan.holding({}).element_count;
  const Memory window(count, bytes_of(Dtype::bf16));
  BucketMemory given;
  given.weights.resize(plan.buckets().size());
  for (const HeldBucket& held : plan.holding({}).buckets) {
    given.weights[held.bucket] = plan.part(window.elements(Dtype::bf16), held);
  }
  Store store(plan, 0, OptimizerConfig(), 1, given);
  for (const HeldBucket& held : plan.holding({}).buckets) {
    const std::span<const float> weights = store.weights(held.bucket);
    const Memory rounded(std::ssize(weights), bytes_of(Dtype::bf16));
    round_to(weights, rounded.elements(Dtype::bf16));
    const Vector place = given.weights[held.bucket];
    CHECK(std::ranges::equal(place.bytes(), rounded.elements(Dtype::bf16).bytes()));
    CHECK(store.weight_frame(held.bucket).data() == place.bytes().data());
  }
}
