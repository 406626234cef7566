#include "ps/update/sent_weights.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/wire/narrow.hpp"
#include "ps/update/store.hpp"
#include "tests/ps/twin.hpp"

namespace weir::ps {
namespace {

using test::made_up;
using test::small_parameters;

BucketPlan plan_of_differences() {
  return BucketPlan(small_parameters(), {0, 0, 1, 1}, {.replicas = 2, .stages = 2, .servers = 2},
                    1 << 17, {.push = {}, .pull = {WireFormat::int8}});
}

/// int8 with error feedback, once more from its formula: blocks of 256, in double.
void twin_step(const std::vector<double>& weights, std::vector<double>& sent) {
  for (std::size_t begin = 0; begin < weights.size(); begin += kInt8Block) {
    const std::size_t end = std::min<std::size_t>(begin + kInt8Block, weights.size());
    double most = 0;
    for (std::size_t at = begin; at < end; ++at) {
      most = std::max(most, std::abs(weights[at] - sent[at]));
    }
    if (most == 0) continue;
    for (std::size_t at = begin; at < end; ++at) {
      sent[at] += std::nearbyint((weights[at] - sent[at]) / most * 127) * most / 127;
    }
  }
}

double largest(std::span<const float> values) {
  double most = 0;
  for (const float value : values) most = std::max(most, std::abs(double(value)));
  return most;
}

}  // namespace

TEST_CASE("readers who add each frame have the bits that the server counts on") {
  const BucketPlan plan = plan_of_differences();
  for (index_t server = 0; server < 2; ++server) {
    SentWeights sent(plan, server);
    for (const index_t index : plan.buckets_of(server)) {
      const index_t count = plan.buckets()[index].element_count;
      std::vector<float> weights(count), reader(count);
      std::vector<std::byte> frame(plan.pulled_bytes(index));
      for (index_t at = 0; at < count; ++at) weights[at] = made_up(0, index, at);
      std::ranges::copy(weights, sent.of(index).begin());
      std::ranges::copy(weights, reader.begin());
      for (index_t update = 1; update <= 5; ++update) {
        for (index_t at = 0; at < count; ++at) weights[at] += 0.01F * made_up(update, index, at);
        sent.encode(index, weights, frame);
        decode_add(plan.wire().pull, frame, reader);
        CHECK(std::ranges::equal(reader, sent.of(index)));
      }
    }
  }
}

TEST_CASE("what was sent follows the formula in double, and what is missing does not add up") {
  const BucketPlan plan = plan_of_differences();
  SentWeights sent(plan, 0);
  const index_t index = plan.buckets_of(0).front();
  const index_t count = plan.buckets()[index].element_count;
  std::vector<float> weights(count);
  for (index_t at = 0; at < count; ++at) weights[at] = made_up(0, index, at);
  std::vector<std::byte> frame(plan.pulled_bytes(index));
  std::ranges::copy(weights, sent.of(index).begin());
  const double scale = largest(weights);
  double bound = 0;
  for (index_t update = 1; update <= 60; ++update) {
    std::vector<float> step(count);
    for (index_t at = 0; at < count; ++at) step[at] = 1e-3F * made_up(update, index, at);
    for (index_t at = 0; at < count; ++at) weights[at] += step[at];
    std::vector<double> twin(sent.of(index).begin(), sent.of(index).end());
    twin_step({weights.begin(), weights.end()}, twin);
    sent.encode(index, weights, frame);
    // One frame rounds away at most half of 1/127 of the largest step and of what was missing
    // before; no more is missing after it.
    bound = (largest(step) + bound) / 254 * 1.001 + 1e-7 * scale;
    double missing = 0;
    index_t differ_count = 0;
    for (index_t at = 0; at < count; ++at) {
      missing = std::max(missing, std::abs(double(weights[at]) - double(sent.of(index)[at])));
      differ_count += std::abs(twin[at] - double(sent.of(index)[at])) > 1e-6 * scale;
    }
    CHECK(missing <= bound);
    CHECK(differ_count <= count / 500);  // near a tie double may round to the other side
  }
  // Weights that stand still are reached: each frame leaves 1/254 of what was missing.
  for (int frame_count = 0; frame_count < 4; ++frame_count) sent.encode(index, weights, frame);
  for (index_t at = 0; at < count; ++at) {
    CHECK(std::abs(weights[at] - sent.of(index)[at]) <= 1e-6 * scale);
  }
}

TEST_CASE("a store sends one difference an update, also when it skips or rolls back") {
  const BucketPlan plan = plan_of_differences();
  const std::vector<index_t> replicas = {0, 1};
  Store store(plan, 0, OptimizerConfig(), 1);
  const index_t index = store.buckets().front();
  const index_t count = plan.buckets()[index].element_count;
  CHECK(std::ranges::equal(store.weights(index), store.sent_weights(index)));
  std::vector<float> reader(store.weights(index).begin(), store.weights(index).end());
  const std::vector<float> first = reader;
  index_t update = 0;
  for (const SkipReason skip : {SkipReason::none, SkipReason::none, SkipReason::not_finite,
                                SkipReason::rollback, SkipReason::none}) {
    ++update;
    for (index_t each = 0; each < store.contributor_count(index); ++each) {
      const std::span<float> gradient = store.contribution(index, each);
      for (index_t at = 0; at < count; ++at) gradient[at] = made_up(update, each, at);
      if (store.arrived(index, each)) store.sum(index, replicas);
    }
    store.apply(index, {.update = update,
                        .step = update,
                        .replicas = {.contributors = replicas},
                        .rule = {.factor = 1, .rate = 0.1, .skip = skip}});
    if (skip == SkipReason::rollback) {
      std::ranges::copy(first, store.mutable_weights(index).begin());
      store.encode_weights(index);
    }
    decode_add(plan.wire().pull, store.weight_frame(index), reader);
    CHECK(std::ranges::equal(reader, store.sent_weights(index)));
    for (index_t at = 0; at < count; ++at) {
      CHECK(std::abs(reader[at] - store.weights(index)[at]) < 0.01);
    }
  }
}

TEST_CASE("without differences nothing is kept") {
  const BucketPlan plan(small_parameters(), {0, 0, 0, 0}, {}, 1 << 17,
                        {.push = {WireFormat::int8}, .pull = {WireFormat::bf16}});
  CHECK_FALSE(SentWeights(plan, 0).kept());
  CHECK_FALSE(Store(plan, 0, OptimizerConfig(), 1).sends_differences());
}

}  // namespace weir::ps
