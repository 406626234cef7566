#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "common/number/random.hpp"
#include "ps/update/store.hpp"
#include "tests/ps/save/saving.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

constexpr index_t kReplicas = 6;

/// Six replicas in groups; the embedding has two contributors in each, since it is tied.
BucketPlan plan_in_groups(index_t size, const WireConfig& wire = {}, index_t servers = 2) {
  const Layout layout = {
      .replicas = kReplicas, .stages = 2, .servers = servers, .group_size = size};
  return BucketPlan(small_parameters(), {0, 0, 1, 1}, layout, 1 << 17, wire);
}

std::vector<index_t> all_replicas() {
  std::vector<index_t> all(kReplicas);
  for (index_t replica = 0; replica < kReplicas; ++replica) all[replica] = replica;
  return all;
}

std::vector<float> gradient(index_t update, index_t bucket, index_t contribution, index_t count) {
  std::vector<float> values(count);
  fill_normal(values, 7, static_cast<std::uint64_t>(10000 * update + 100 * bucket + contribution),
              0, 1);
  return values;
}

/// The bucket's sum, group by group, each of these encoded and decoded; plain loops.
std::vector<float> plain_sum(const BucketPlan& plan, index_t update, index_t index,
                             std::vector<std::vector<float>>& residuals) {
  const index_t count = plan.buckets()[index].element_count;
  const index_t a_replica = std::ssize(plan.buckets()[index].contributors);
  const index_t size = plan.layout().group_size;
  const Wire& wire = plan.wire().push;
  residuals.resize(kReplicas / size * a_replica);
  std::vector<float> total(count);
  for (index_t group = 0; group < kReplicas / size; ++group) {
    for (index_t position = 0; position < a_replica; ++position) {
      std::vector<float> sum = gradient(update, index, group * size * a_replica + position, count);
      for (index_t replica = group * size + 1; replica < (group + 1) * size; ++replica) {
        const auto more = gradient(update, index, replica * a_replica + position, count);
        for (index_t i = 0; i < count; ++i) sum[i] += more[i];
      }
      auto& residual = residuals[group * a_replica + position];
      residual.resize(wire.keeps_residual() ? count : 0);
      std::vector<std::byte> frame(wire.bytes(count));
      encode(wire, sum, residual, frame);
      decode(wire, frame, sum);
      for (index_t i = 0; i < count; ++i) total[i] += sum[i];
    }
  }
  return total;
}

/// What the store makes of gradient(); contributions arrive in another order each time.
class GroupedStore {
 public:
  GroupedStore(const BucketPlan& plan, index_t server, unsigned seed)
      : plan_(plan), random_(seed), store_(plan, server, sgd(), 1) {
    for (index_t index : store_.buckets()) std::ranges::fill(store_.mutable_weights(index), 0.0F);
    store_.begin_with(1);
  }

  const List<index_t>& buckets() const { return store_.buckets(); }

  std::vector<float> sum(index_t update, index_t index) {
    const index_t count = plan_.buckets()[index].element_count;
    std::vector<index_t> order(store_.contributor_count(index));
    for (std::size_t at = 0; at < order.size(); ++at) order[at] = static_cast<index_t>(at);
    std::ranges::shuffle(order, random_);
    for (index_t each : order) {
      std::ranges::copy(gradient(update, index, each, count),
                        store_.contribution(index, each).begin());
      store_.arrived(index, each);
    }
    std::ranges::fill(store_.mutable_weights(index), 0.0F);
    store_.sum(index, all_replicas());
    store_.apply(index, {.update = update,
                         .step = update,
                         .replicas = {.contributors = all_replicas()},
                         .rule = {.factor = 1, .rate = 1}});
    std::vector<float> sum;
    for (float weight : store_.weights(index)) sum.push_back(-weight);
    return sum;
  }

 private:
  /// It steps from zero to minus the gradient.
  static OptimizerConfig sgd() {
    return {.kind = OptimizerKind::sgd, .momentum = 0, .weight_decay = 0};
  }

  const BucketPlan& plan_;
  std::mt19937 random_;
  Store store_;
};

}  // namespace

TEST_CASE("groups are added up first, in the replicas' order, and each is encoded as a whole") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (const Wire& wire :
       {Wire{}, Wire{WireFormat::bf16}, Wire{WireFormat::int8}, Wire{WireFormat::topk, 5}}) {
    for (const index_t size : {2, 3, 6}) {
      CAPTURE(int(wire.format));
      CAPTURE(size);
      const BucketPlan plan = plan_in_groups(size, {.push = wire, .pull = {}});
      for (index_t server = 0; server < 2; ++server) {
        GroupedStore store(plan, server, seed);
        for (index_t index : store.buckets()) {
          std::vector<std::vector<float>> residuals;
          for (index_t update = 1; update <= 2; ++update) {
            CHECK((store.sum(update, index) == plain_sum(plan, update, index, residuals)));
          }
        }
      }
    }
  }
}

TEST_CASE("sums of groups differ from those of single replicas by rounding alone") {
  const BucketPlan alone = plan_in_groups(1, {}, 1);
  const BucketPlan pairs = plan_in_groups(2, {}, 1);
  GroupedStore one(alone, 0, 1), two(pairs, 0, 2);
  index_t different = 0, too_far = 0;
  for (index_t index : one.buckets()) {
    const index_t count = alone.buckets()[index].element_count;
    const index_t contributions = kReplicas * std::ssize(alone.buckets()[index].contributors);
    std::vector<double> exact(count), magnitude(count);
    for (index_t each = 0; each < contributions; ++each) {
      const auto values = gradient(1, index, each, count);
      for (index_t i = 0; i < count; ++i) {
        exact[i] += static_cast<double>(values[i]);
        magnitude[i] += std::abs(static_cast<double>(values[i]));
      }
    }
    const std::vector<float> by_one = one.sum(1, index), by_two = two.sum(1, index);
    const double epsilons = static_cast<double>(contributions) * 0x1p-24;
    for (index_t i = 0; i < count; ++i) {
      for (const float sum : {by_one[i], by_two[i]}) {
        too_far += std::abs(static_cast<double>(sum) - exact[i]) > epsilons * magnitude[i];
      }
      different += by_one[i] != by_two[i];
    }
  }
  CHECK(too_far == 0);
  CHECK(different > 0);
}

TEST_CASE(
    "with groups and error feedback any servers find the same bits, and checkpoints change none") {
  const QuietLog quiet;
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  const WireConfig int8 = {.push = {WireFormat::int8}, .pull = {}};
  const TemporaryFolder folder;
  const BucketPlan two = plan_in_groups(3, int8, 2);
  SimulatedJob undisturbed(two, saving(folder.path(), 6, 3), seed);
  undisturbed.run();
  for (index_t servers = 1; servers <= 3; ++servers) {
    CAPTURE(servers);
    const TemporaryFolder other;
    const BucketPlan plan = plan_in_groups(3, int8, servers);
    SimulatedJob resumed(plan, saving(other.path(), 6, 0), seed + 1);
    resumed.load(checkpoint_folder(folder.path(), 3));
    resumed.run();
    CHECK(resumed.weights() == undisturbed.weights());
    SimulatedJob without(plan, saving(other.path(), 6, 0), seed + 2);
    without.run();
    CHECK(without.weights() == undisturbed.weights());
  }
  // Residuals matter, and are of groups.
  const BucketPlan pairs = plan_in_groups(2, int8, 1);
  const TemporaryFolder other;
  SimulatedJob of_pairs(pairs, saving(other.path(), 6, 0), seed);
  of_pairs.load(checkpoint_folder(folder.path(), 3));
  of_pairs.run();
  CHECK(of_pairs.weights() != undisturbed.weights());
  const CheckpointReader reader(checkpoint_folder(folder.path(), 3));
  CHECK(reader.find("/residual/1.1/embedding").has_value());
  CHECK_FALSE(reader.find("/residual/2.0/embedding").has_value());
}
