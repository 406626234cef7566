// Whole updates, from push to pull, with weir's own workers' clients and servers.
#include <algorithm>
#include <optional>

#include "benchmarks/server_tier_measures.hpp"
#include "common/base/machine.hpp"
#include "ps/server.hpp"
#include "ps/server_loop.hpp"
#include "worker/train/server_client.hpp"

namespace weir::benchmark {
namespace {

/// Runs a job of `updates` updates after one that warms up. `update` makes one on a worker, from
/// push to pull, and returns the times that it took down. Returns the slowest worker's times, by
/// update.
template <class Update>
std::vector<std::vector<double>> run_job(TierTeam& team, const BucketPlan& plan,
                                         Transport transport, index_t updates,
                                         const Update& update) {
  DataPlane plane(team.world(), team.host(), plan, transport, true);
  std::optional<ps::Server> server;
  std::optional<ps::ServerLoop> loop;
  worker::OwnServer own;
  if (team.is_server()) {
    ps::ServerConfig config;
    config.training = {
        .steps = updates + 1, .batch = team.job().workers, .micro_batch = 1, .seed = 0};
    const index_t index = team.layout().server(team.world().rank());
    server.emplace(plan, index, config, plane.server_memory());
    loop.emplace(team.world(), plan, index, *server, plane, [] { return false; });
    if (!team.is_worker()) {
      loop->run();
      return {};
    }
    own.move = [&] { return loop->move(); };
    own.finished = [&] { return loop->finished(); };
    loop->begin();
  }
  worker::ServerClient client(team.world(), team.layout().worker(team.world().rank()), plan, plane,
                              own);
  std::vector<std::vector<double>> times;
  client.start();
  client.await_all();
  for (index_t each = 1; each <= updates + 1; ++each) {
    client.begin_update();
    // The gradients of a backward, written before the clock starts.
    std::ranges::fill(as<float>(client.gradients()), 1e-3F);
    team.workers().meet([&] { return client.progress(); });
    times.push_back(update(client, each));
  }
  client.finish();
  for (std::vector<double>& each : times) team.workers().max(each);
  times.erase(times.begin());
  return times;
}

void close(const TierTeam& team, worker::ServerClient& client, index_t update) {
  client.report({.step = update, .replica = team.world().rank(), .loss_sum = 1, .count = 1});
  client.directive();
}

}  // namespace

void measure_burst(TierTeam& team, Transport transport, index_t bucket_bytes) {
  const BucketPlan plan = plan_of(team.job(), kTierUnits, bucket_bytes);
  const auto update = [&](worker::ServerClient& client, index_t number) {
    const double begin = seconds_now();
    for (index_t unit = kTierUnits; unit-- > 0;) {
      client.ready(unit);
      client.progress();
    }
    close(team, client, number);
    client.await_all();
    return std::vector{begin, seconds_now()};
  };
  for (const auto& times : run_job(team, plan, transport, team.job().updates, update)) {
    team.write(name_of(transport), bucket_bytes, times[1] - times[0]);
  }
}

void measure_paced(TierTeam& team, Transport transport) {
  const index_t units = 4 * team.job().elements / PacedBackward::kBucketBytes;
  const BucketPlan plan = plan_of(team.job(), units, PacedBackward::kBucketBytes);
  const auto update = [&](worker::ServerClient& client, index_t number) {
    for (index_t unit = units; unit-- > 0;) {
      for (index_t slice = 0; slice < PacedBackward::kSlices; ++slice) {
        sleep_microseconds(PacedBackward::kSleepMicroseconds);
        client.progress();
      }
      if (unit > 0) client.ready(unit);
    }
    std::vector<double> times = {seconds_now()};
    client.ready(0);
    close(team, client, number);
    client.await(0);
    times.push_back(seconds_now());
    client.await_all();
    times.push_back(seconds_now());
    return times;
  };
  for (const auto& times : run_job(team, plan, transport, PacedBackward::kUpdates, update)) {
    team.write(text("first-", name_of(transport)), PacedBackward::kBucketBytes,
               times[1] - times[0]);
    team.write(text("all-", name_of(transport)), PacedBackward::kBucketBytes, times[2] - times[0]);
  }
}

}  // namespace weir::benchmark
