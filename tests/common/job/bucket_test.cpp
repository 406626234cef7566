#include "common/job/bucket.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

using namespace weir;

namespace {

ParameterSpec spec(const std::string& name, std::vector<index_t> shape, bool split,
                   std::vector<index_t> units) {
  ParameterSpec made;
  made.name = name;
  made.shape = std::move(shape);
  made.split = split;
  made.units = std::move(units);
  return made;
}

/// An embedding tied to the head, two blocks with query, key, value and a norm, a final norm.
std::vector<ParameterSpec> small_model() {
  std::vector<ParameterSpec> specs = {spec("embedding", {1000, 96}, true, {0, 3})};
  for (index_t layer = 1; layer <= 2; ++layer) {
    const std::string name = "layer" + std::to_string(layer);
    specs.push_back(spec(name + ".norm", {96}, false, {layer}));
    for (const char* part : {".query", ".key", ".value"}) {
      specs.push_back(spec(name + part, {288, 96}, true, {layer}));
    }
    specs.push_back(spec(name + ".up", {2304, 96}, true, {layer}));
  }
  specs.push_back(spec("final_norm", {96}, false, {3}));
  return specs;
}

const std::vector<std::vector<index_t>> kUnitStages = {{0, 0, 0, 0}, {0, 0, 1, 1}};

/// Runs `body(plan)` on many layouts and bucket sizes.
template <class Body>
void for_plans(const Body& body) {
  for (index_t stages = 1; stages <= 2; ++stages)
    for (index_t shards = 1; shards <= 3; ++shards)
      for (index_t servers = 1; servers <= 4; ++servers)
        for (index_t bytes : {65536, 200000, 524288, 1 << 30}) {
          CAPTURE(stages);
          CAPTURE(shards);
          CAPTURE(servers);
          CAPTURE(bytes);
          const Layout layout = {
              .replicas = 2, .stages = stages, .shards = shards, .servers = servers};
          body(BucketPlan(small_model(), kUnitStages[stages - 1], layout, bytes));
        }
}

}  // namespace

TEST_CASE("every element of every parameter lies in exactly one bucket") {
  for_plans([](const BucketPlan& plan) {
    std::vector<std::vector<int>> seen;
    for (const ParameterSpec& each : plan.specs()) {
      seen.emplace_back(static_cast<std::size_t>(each.element_count()), 0);
    }
    for (const Bucket& bucket : plan.buckets()) {
      index_t offset = 0;
      for (const Segment& segment : bucket.segments) {
        CHECK(segment.offset == offset);
        offset += segment.range.count();
        for (index_t at = segment.range.begin; at < segment.range.end; ++at) {
          ++seen[segment.parameter][at];
        }
      }
      CHECK(offset == bucket.element_count);
    }
    for (const auto& counts : seen) {
      CHECK(std::ranges::all_of(counts, [](int count) { return count == 1; }));
    }
  });
}

TEST_CASE("a bucket keeps to its size and cuts a slice only between blocks") {
  for_plans([](const BucketPlan& plan) {
    const index_t shards = plan.layout().shards;
    for (const Bucket& bucket : plan.buckets()) {
      for (const Segment& segment : bucket.segments) {
        const ParameterSpec& of = plan.specs()[segment.parameter];
        const Interval slice = slice_of(of, bucket.contributors.front().shard, shards);
        CHECK((segment.range.begin - slice.begin) % kBlockElements == 0);
        const index_t end = segment.range.end - slice.begin;
        CHECK((end % kBlockElements == 0 || segment.range.end == slice.end));
      }
    }
  });
  const BucketPlan plan(small_model(), {0, 0, 0, 0}, Layout{}, 131072);
  for (const Bucket& bucket : plan.buckets()) CHECK(bucket.bytes() <= 131072);
}

TEST_CASE("servers carry the same load within one bucket") {
  for_plans([](const BucketPlan& plan) {
    std::map<index_t, index_t> load;
    index_t largest = 0;
    for (index_t server = 0; server < plan.layout().servers; ++server) {
      load[server] = 0;
      for (index_t index : plan.buckets_of(server)) {
        const index_t count = plan.buckets()[index].element_count;
        load[server] += count;
        largest = std::max(largest, count);
      }
    }
    const auto [least, most] =
        std::ranges::minmax_element(load, {}, [](const auto& entry) { return entry.second; });
    CHECK(most->second - least->second <= largest);
  });
}

TEST_CASE(
    "a holder's slices are those of its stage and shard, and query, key, value are neighbours") {
  for_plans([](const BucketPlan& plan) {
    const Layout& layout = plan.layout();
    for (index_t stage = 0; stage < layout.stages; ++stage) {
      for (index_t shard = 0; shard < layout.shards; ++shard) {
        const Holding& holding = plan.holding({.stage = stage, .shard = shard});
        std::set<index_t> expected;
        for (index_t index = 0; index < plan.specs().size(); ++index) {
          const ParameterSpec& each = plan.specs()[index];
          for (index_t unit : each.units) {
            if (plan.unit_stage()[unit] == stage) {
              expected.insert(index);
            }
          }
        }
        std::set<index_t> held;
        for (const HeldSlice& slice : holding.slices) {
          held.insert(slice.parameter);
          CHECK(slice.range == slice_of(plan.specs()[slice.parameter], shard, layout.shards));
        }
        CHECK(held == expected);
        for (const HeldSlice& slice : holding.slices) {
          const std::string& name = plan.specs()[slice.parameter].name;
          if (!name.ends_with(".query") && !name.ends_with(".key")) continue;
          CHECK(holding.slice(slice.parameter + 1).offset == slice.offset + slice.range.count());
        }
      }
    }
  });
}

TEST_CASE("buckets are pushed in the order in which backward completes them") {
  for_plans([](const BucketPlan& plan) {
    CHECK(std::ranges::is_sorted(plan.buckets(), std::greater{}, &Bucket::lowest_unit));
    for (index_t stage = 0; stage < plan.layout().stages; ++stage) {
      const Holding& holding = plan.holding({.stage = stage});
      CHECK(std::ranges::is_sorted(holding.buckets, std::greater{}, &HeldBucket::lowest_unit));
    }
  });
}

TEST_CASE("a tied parameter has both stages as contributors, one that is not cut all shards") {
  const Layout layout = {.stages = 2, .shards = 2};
  const BucketPlan plan(small_model(), {0, 0, 1, 1}, layout, 1 << 30);
  for (const Bucket& bucket : plan.buckets()) {
    const std::string& name = plan.specs()[bucket.segments.front().parameter].name;
    const index_t shard = bucket.contributors.front().shard;
    if (name == "embedding") {
      CHECK(bucket.contributors == std::vector<Holder>{{0, 0, shard}, {1, 0, shard}});
      CHECK(bucket.readers == bucket.contributors);
      CHECK(bucket.segments.size() == 1);
    } else if (name.ends_with("norm")) {
      CHECK(bucket.contributors.size() == 2);
      CHECK(bucket.contributors[1].shard == 1);
      CHECK(bucket.readers == bucket.contributors);
    }
  }
}

TEST_CASE("each context of a holder contributes and reads, in a fixed order, and holds the same") {
  const Layout layout = {.stages = 2, .contexts = 3, .shards = 2};
  const BucketPlan plan(small_model(), {0, 0, 1, 1}, layout, 65536);
  const BucketPlan whole(small_model(), {0, 0, 1, 1}, Layout{.stages = 2, .shards = 2}, 65536);
  REQUIRE(plan.buckets().size() == whole.buckets().size());
  const auto in_each_context = [](const std::vector<Holder>& holders) {
    std::vector<Holder> all;
    for (index_t stage = 0; stage < 2; ++stage)
      for (index_t context = 0; context < 3; ++context)
        for (const Holder& holder : holders) {
          if (holder.stage == stage) all.push_back({stage, context, holder.shard});
        }
    return all;
  };
  for (index_t index = 0; index < plan.buckets().size(); ++index) {
    const Bucket& bucket = plan.buckets()[index];
    CHECK(bucket.contributors == in_each_context(whole.buckets()[index].contributors));
    CHECK(bucket.readers == in_each_context(whole.buckets()[index].readers));
    CHECK(bucket.element_count == whole.buckets()[index].element_count);
  }
  for (index_t context = 0; context < 3; ++context) {
    const Holding& holding = plan.holding({.stage = 1, .context = context, .shard = 1});
    const Holding& truth = whole.holding({.stage = 1, .shard = 1});
    CHECK(holding.element_count == truth.element_count);
    REQUIRE(holding.buckets.size() == truth.buckets.size());
    for (index_t at = 0; at < truth.buckets.size(); ++at) {
      CHECK(holding.buckets[at].bucket == truth.buckets[at].bucket);
      CHECK(holding.buckets[at].offset == truth.buckets[at].offset);
      CHECK(holding.buckets[at].pushes == truth.buckets[at].pushes);
    }
  }
  CHECK(plan.digest() != whole.digest());
}

TEST_CASE("rows that do not divide leave the last shards fewer, or none") {
  const ParameterSpec vocabulary = spec("v", {4, 10}, true, {0});
  CHECK(slice_of(vocabulary, 0, 3) == Interval{0, 20});
  CHECK(slice_of(vocabulary, 1, 3) == Interval{20, 40});
  CHECK(slice_of(vocabulary, 2, 3).count() == 0);
}

TEST_CASE("initial weights follow from name, seed and element alone") {
  ParameterSpec normal = spec("layers.0.weight", {100, 33}, true, {1});
  normal.initial = Initial::normal;
  normal.deviation = 0.02;
  std::vector<float> whole(3300), part(777);
  initial_weights(normal, 7, {0, 3300}, whole);
  initial_weights(normal, 7, {1001, 1778}, part);
  CHECK(std::equal(part.begin(), part.end(), whole.begin() + 1001));
  std::vector<float> other(3300);
  initial_weights(normal, 8, {0, 3300}, other);
  CHECK(other != whole);
}

TEST_CASE("plans differ in their digest as soon as anything differs") {
  const BucketPlan plan(small_model(), {0, 0, 1, 1}, Layout{.stages = 2}, 524288);
  CHECK(plan.digest() ==
        BucketPlan(small_model(), {0, 0, 1, 1}, Layout{.stages = 2}, 524288).digest());
  CHECK(plan.digest() !=
        BucketPlan(small_model(), {0, 1, 1, 1}, Layout{.stages = 2}, 524288).digest());
  CHECK(
      plan.digest() !=
      BucketPlan(small_model(), {0, 0, 1, 1}, Layout{.stages = 2, .servers = 2}, 524288).digest());
  std::vector<ParameterSpec> renamed = small_model();
  renamed[1].name += "x";
  CHECK(plan.digest() != BucketPlan(renamed, {0, 0, 1, 1}, Layout{.stages = 2}, 524288).digest());
}
