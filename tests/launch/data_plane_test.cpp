#include "common/job/data_plane.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>

#include "common/base/machine.hpp"
#include "common/job/team.hpp"
#include "common/net/agree.hpp"
#include "ps/server_loop.hpp"
#include "tests/mpi_test.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/worker/low_types.hpp"
#include "worker/train/server_client.hpp"

namespace weir::test::data_plane_test {
namespace {

constexpr index_t kUpdates = 12;

float gradient_of(index_t update, index_t contributor, index_t parameter, index_t element) {
  return made_up(1000 * update + contributor, parameter, element);
}

/// A worker whose gradients are made up: those that SimulatedJob makes up, too. Dawdles at random.
void run_worker(worker::ServerClient& client, const BucketPlan& plan, const WorkerPlace& place,
                std::mt19937& random) {
  const Holding& holding = plan.holding(holder_of(place));
  const auto dawdle = [&] {
    if (random() % 6 == 0) sleep_microseconds(index_t(random() % 500));
    client.progress();
  };
  index_t not_zero = 0, changed = 0;
  Directive directive = client.start();
  while (!directive.order.stop) {
    const index_t update = directive.update + 1;
    client.begin_update();
    dawdle();
    for (index_t unit = 0; unit < 4; ++unit) client.await(unit);
    not_zero += std::ranges::count_if(as<float>(client.gradients()),
                                      [](float value) { return value != 0; });
    for (index_t unit = 3; unit >= 0; --unit) {
      for (const HeldBucket& held : holding.buckets) {
        if (held.lowest_unit != unit) continue;
        const Bucket& bucket = plan.buckets()[held.bucket];
        const auto& all = bucket.contributors;
        const index_t contributor = place.replica * std::ssize(all) +
                                    (std::ranges::find(all, holder_of(place)) - all.begin());
        for (const Segment& segment : bucket.segments) {
          for (index_t i = 0; i < segment.range.count(); ++i) {
            as<float>(client.gradients())[held.offset + segment.offset + i] +=
                gradient_of(update, contributor, segment.parameter, segment.range.begin + i);
          }
        }
      }
      client.ready(unit);
      dawdle();
    }
    if (place.shard == 0 && place.stage + 1 == plan.layout().stages) {
      client.report({.step = update,
                     .replica = place.replica,
                     .context = place.context,
                     .loss_sum = 100.0 / static_cast<double>(update),
                     .count = 700 + place.replica});
    }
    // Until it asks for the directive a worker may read its weights, whoever has pushed all.
    const std::vector<float> before = floats_of(client.weights());
    dawdle();
    changed += before != floats_of(client.weights());
    directive = client.directive();
    dawdle();
  }
  client.await_all();
  client.finish();
  CHECK(not_zero == 0);
  CHECK(changed == 0);
}

BucketPlan plan_with(const Layout& layout, Dtype dtype, const WireConfig& wire) {
  const std::vector<index_t> unit_stage =
      layout.stages == 1 ? std::vector<index_t>{0, 0, 0, 0} : std::vector<index_t>{0, 0, 1, 1};
  return BucketPlan(small_parameters(), unit_stage, layout, 1 << 17, wire, dtype);
}

/// The weights of the same servers in one process, which add up the groups themselves.
Parameters weights_in_one_process(const Layout& layout, unsigned seed,
                                  const WireConfig& wire = {}) {
  const BucketPlan plan = plan_with(layout, Dtype::f32, wire);
  const ps::ServerConfig config = server_config(kUpdates);
  SimulatedJob twin(plan, config, seed);
  twin.gradient = gradient_of;
  twin.run();
  return twin.weights();
}

/// All ranks of comm as a job over this data plane; then each worker's weights against `wanted`,
/// rounded to `dtype`.
void check_weights(const test::Ranks& ranks, const Layout& layout, const Comm& host,
                   Transport transport, Dtype dtype, const Parameters& wanted, unsigned seed,
                   const WireConfig& wire = {}) {
  REQUIRE(layout.rank_count() == ranks.comm.size());
  CAPTURE(layout.arithmetic());
  CAPTURE(name_of(transport));
  CAPTURE(name_of(dtype));
  CAPTURE(seed);
  std::mt19937 random(seed + static_cast<unsigned>(ranks.rank));
  CAPTURE(int(wire.push.format));
  const BucketPlan plan = plan_with(layout, dtype, wire);
  const ps::ServerConfig config = server_config(kUpdates);
  DataPlane plane(ranks.comm, host, plan, transport, true);
  std::optional<ps::Server> server;
  std::optional<ps::ServerLoop> loop;
  if (layout.is_server(ranks.rank)) {
    const index_t index = layout.server(ranks.rank);
    server.emplace(plan, index, config, plane.server_memory());
    loop.emplace(ranks.comm, plan, index, *server, plane, [] { return false; });
  }
  if (!layout.is_worker(ranks.rank)) {
    loop->run();
  } else {
    const WorkerPlace place = layout.worker(ranks.rank);
    worker::OwnServer own;
    if (loop) {
      own.move = [&] { return loop->move(); };
      own.finished = [&] { return loop->finished(); };
      loop->begin();
    }
    worker::ServerClient client(ranks.comm, place, plan, plane, std::move(own));
    run_worker(client, plan, place, random);

    for (const HeldSlice& slice : plan.holding(holder_of(place)).slices) {
      const auto& whole = wanted[slice.parameter];
      const Dtype read = wire.pull.format == WireFormat::bf16 ? Dtype::bf16 : dtype;
      const Memory rounded(slice.range.count(), bytes_of(read));
      round_to(std::span(whole).subspan(slice.range.begin, slice.range.count()),
               rounded.elements(read));
      CHECK(floats_of(client.weights().part(slice.offset, slice.range.count())) ==
            floats_of(rounded.elements(read)));
    }
  }
  ranks.comm.barrier();
}

unsigned common_seed(const test::Ranks& ranks) {
  return static_cast<unsigned>(std::stoul(ranks.comm.broadcast(text(std::random_device()()), 0)));
}

/// 8 ranks each; tied parameters from two stages, some that all shards hold, several replicas.
const std::vector<Layout> kLayouts = {
    {.replicas = 3, .stages = 2, .servers = 2},
    {.replicas = 2, .shards = 3, .servers = 2},
    {.stages = 2, .shards = 2, .servers = 4},
    {.replicas = 7, .servers = 1},
    {.replicas = 1, .stages = 2, .contexts = 2, .servers = 4},
    {.stages = 2, .contexts = 1, .shards = 3, .servers = 2},
    {.replicas = 2, .stages = 2, .shards = 2, .servers = 8, .placement = Placement::colocated},
    {.replicas = 6, .servers = 2, .group_size = 3},
    {.replicas = 2,
     .contexts = 2,
     .shards = 2,
     .servers = 8,
     .group_size = 2,
     .placement = Placement::colocated},
};

/// The groups of this layout on one host, on three and on some, with each way to encode them,
/// against servers that add up all of them.
void check_groups(const test::Ranks& ranks, const Layout& layout) {
  const unsigned seed = common_seed(ranks);
  std::mt19937 random(seed);
  const WireConfig wires[] = {{},
                              {.push = {}, .pull = {WireFormat::bf16}},
                              {.push = {WireFormat::int8}, .pull = {WireFormat::bf16}}};
  for (const WireConfig& wire : wires) {
    const Parameters wanted = weights_in_one_process(layout, seed, wire);
    const auto check = [&](const Comm& host, Transport transport) {
      check_weights(ranks, layout, host, transport, Dtype::f32, wanted, seed, wire);
    };
    check(ranks.comm.host(), Transport::automatic);
    if (wire.push.keeps_residual()) check(ranks.comm.host(), Transport::messages);
    check(ranks.comm.split(ranks.rank / 3, ranks.rank), Transport::automatic);
    std::vector<int> hosts(8);
    for (int& each : hosts) each = static_cast<int>(random() % 3);
    check(ranks.comm.split(hosts[ranks.rank], ranks.rank), Transport::automatic);
  }
}

}  // namespace

MPI_TEST_CASE("by window and by messages workers end with the bits of servers in one process", 8) {
  const unsigned seed = common_seed(ranks);
  const Comm host = ranks.comm.host();
  for (const Layout& layout : kLayouts) {
    const Parameters wanted = weights_in_one_process(layout, seed);
    for (const Transport transport : {Transport::window, Transport::messages}) {
      check_weights(ranks, layout, host, transport, Dtype::f32, wanted, seed);
      check_weights(ranks, layout, host, transport, Dtype::bf16, wanted, seed);
      if (&layout == &kLayouts.front()) {
        check_weights(ranks, layout, host, transport, Dtype::fp16, wanted, seed);
      }
    }
  }
}

MPI_TEST_CASE("on several hosts each pair of ranks takes what it has, with the same bits", 8) {
  const unsigned seed = common_seed(ranks);
  std::mt19937 random(seed);
  for (const Layout& layout : kLayouts) {
    // Ranks told that they share memory with some others only.
    std::vector<int> hosts(8);
    for (int& each : hosts) each = static_cast<int>(random() % 3);
    const Comm host = ranks.comm.split(hosts[ranks.rank], ranks.rank);
    const Parameters wanted = weights_in_one_process(layout, seed);
    check_weights(ranks, layout, host, Transport::automatic, Dtype::f32, wanted, seed);
    check_weights(ranks, layout, host, Transport::automatic, Dtype::bf16, wanted, seed);
  }
}

MPI_TEST_CASE("groups have the same bits on one host and on several, in every wire", 8) {
  check_groups(ranks, {.replicas = 6, .servers = 2, .group_size = 3});
}

MPI_TEST_CASE("colocated, too, groups have the same bits on one host and on several", 8) {
  check_groups(ranks, {.replicas = 2,
                       .contexts = 2,
                       .shards = 2,
                       .servers = 8,
                       .group_size = 2,
                       .placement = Placement::colocated});
}

MPI_TEST_CASE("a group on one host pushes and pulls once, one on two hosts for each replica", 8) {
  const Layout layout = {.replicas = 6, .servers = 2, .group_size = 3};
  const BucketPlan plan = plan_with(layout, Dtype::f32, {.push = {WireFormat::bf16}, .pull = {}});
  // Replicas 0 to 2 are on a host, 3 and 4 on the next, 5 and the servers on the last.
  const Comm host = ranks.comm.split(ranks.rank < 3 ? 0 : ranks.rank < 5 ? 1 : 2, ranks.rank);
  DataPlane plane(ranks.comm, host, plan, Transport::automatic, true);
  for (const index_t server : {6, 7}) {
    CHECK(plane.is_led(1, server));
    CHECK(plane.is_led(2, server));
    for (const index_t worker : {0, 3, 4, 5}) CHECK_FALSE(plane.is_led(worker, server));
  }
  CHECK(plane.wire_of(0) == plan.wire());
  for (const index_t worker : {1, 2, 3, 4, 5}) CHECK(plane.wire_of(worker).push.is_raw());
  if (ranks.rank < 6) {
    index_t pushed = 0, pulled = 0;
    for (index_t bucket = 0; bucket < std::ssize(plan.buckets()); ++bucket) {
      const index_t count = plan.buckets()[bucket].element_count;
      pushed += plane.wire_of(ranks.rank).push.bytes(count);
      pulled += plan.pulled_bytes(bucket);
    }
    const bool led = ranks.rank == 1 || ranks.rank == 2;
    const worker::ServerClient client(ranks.comm, layout.worker(ranks.rank), plan, plane);
    CHECK(client.pushed_bytes() == (led ? 0 : pushed));
    CHECK(client.pulled_bytes() == (led ? 0 : pulled));
    CHECK((plane.team(6) != nullptr) == (ranks.rank == 0));
  }
  ranks.comm.barrier();
}

MPI_TEST_CASE("a worker's weights lie once a host by window, and gradients where servers add up",
              4) {
  const Layout layout = {.replicas = 3, .servers = 1};
  const BucketPlan plan = plan_of(layout);
  const Comm host = ranks.comm.host();
  DataPlane plane(ranks.comm, host, plan, Transport::automatic, true);
  CHECK(plane.by_window_with((ranks.rank + 1) % 4));
  if (ranks.rank == 3) {
    const BucketMemory memory = plane.server_memory();
    for (const HeldBucket& held : plan.holding({}).buckets) {
      std::ranges::fill(as<float>(memory.weights[held.bucket]), 5.0F);
      for (int replica = 0; replica < 3; ++replica) {
        const Vector contribution = memory.contributions[held.bucket][replica];
        std::ranges::fill(as<float>(contribution), static_cast<float>(10 + replica));
      }
    }
  }
  ranks.comm.barrier();
  if (ranks.rank < 3) {
    const auto all_are = [](std::span<const float> values, float wanted) {
      return std::ranges::all_of(values, [&](float value) { return value == wanted; });
    };
    CHECK(all_are(as<float>(plane.weights()), 5.0F));
    CHECK(all_are(as<float>(plane.gradients()), static_cast<float>(10 + ranks.rank)));
  }
  ranks.comm.barrier();
}

MPI_TEST_CASE("a window that cannot be is refused by all ranks where it was asked for", 4) {
  const BucketPlan plan = plan_of({.replicas = 2, .servers = 2});
  const Comm apart = ranks.comm.split(ranks.rank == 3 ? 1 : 0, ranks.rank);
  CHECK_THROWS_WITH_AS(
      DataPlane(ranks.comm, apart, plan, Transport::window, true),
      doctest::Contains("--transport window: rank 0 (replica 0, stage 0, shard 0) and rank 3 "
                        "(server 1) are on different hosts"),
      AgreedError);
  const Comm host = ranks.comm.host();
  CHECK_THROWS_WITH_AS(DataPlane(ranks.comm, host, plan, Transport::window, false),
                       doctest::Contains("every replica takes part in every update"), AgreedError);
  const DataPlane messages(ranks.comm, host, plan, Transport::automatic, false);
  CHECK_FALSE(messages.by_window_with(0));
  CHECK_FALSE(messages.by_window_with(3));
  const BucketPlan narrow(small_parameters(), {0, 0, 0, 0}, {.replicas = 2, .servers = 2}, 1 << 17,
                          {.push = {WireFormat::bf16}, .pull = {}});
  CHECK_THROWS_WITH_AS(DataPlane(ranks.comm, host, narrow, Transport::window, true),
                       doctest::Contains("wires are fp32"), AgreedError);
}

}  // namespace weir::test::data_plane_test
