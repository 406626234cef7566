#include "launch/measure_buckets.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/job/data_plane.hpp"
#include "common/net/mpi.hpp"
#include "common/number/median.hpp"
#include "launch/cut.hpp"
#include "launch/quantities.hpp"
#include "launch/table.hpp"
#include "ps/server.hpp"
#include "ps/server_loop.hpp"
#include "worker/train/server_client.hpp"

namespace weir {
namespace {

constexpr index_t kSizes[] = {65536, 131072, 262144, 524288, 1048576, 2097152, 4194304};
constexpr index_t kRoundsMax = 4;      ///< over all sizes, so that a busy moment meets them alike
constexpr double kRoundSeconds = 1.5;  ///< no round begins later
constexpr index_t kSteps = 5;          ///< a round; the first one warms up
constexpr double kAsGood = 1.03;

index_t bytes_of(const BucketPlan& plan) {
  index_t elements = 0;
  for (const ParameterSpec& spec : plan.specs()) elements += spec.element_count();
  return elements * static_cast<index_t>(sizeof(float));
}

BucketPlan plan_with(RunConfig config, index_t bucket_bytes) {
  config.bucket_bytes = bucket_bytes;
  return make_bucket_plan(config, first_units(config));
}

RunConfig with_few_layers(RunConfig config) {
  while (config.model.layers > std::max<index_t>(1, config.layout.stages) &&
         bytes_of(plan_with(config, kSizes[3])) > kTrialBytes) {
    --config.model.layers;
  }
  return config;
}

ps::ServerConfig server_config(const RunConfig& config) {
  ps::ServerConfig server;
  server.optimizer = config.server.optimizer;
  server.clip.policy = ps::ClipPolicy::none;
  server.steps = kSteps;
  server.batch = config.train.batch;
  server.micro_batch = config.train.micro_batch;
  return server;
}

/// Seconds of each step of this worker.
std::vector<double> steps_of_worker(const RunConfig& config, const BucketPlan& plan,
                                    const Comm& world, DataPlane& plane, ps::ServerLoop* loop) {
  const Layout& layout = config.layout;
  const WorkerPlace place = layout.worker(world.rank());
  worker::OwnServer own;
  if (loop) {
    own.move = [&] { return loop->move(); };
    own.finished = [&] { return loop->finished(); };
  }
  worker::ServerClient client(world, place, plan, plane, std::move(own));
  if (loop) loop->begin();
  const ElementRange units = units_of_stage(config, first_units(config), place.stage);
  const bool reports = place.stage + 1 == layout.stages && place.shard == 0;
  std::vector<double> seconds;
  for (Directive directive = client.start(); !directive.stop;) {
    client.await_all();
    client.begin_update();
    const double begin = seconds_now();
    for (index_t unit = units.end; unit-- > units.begin;) client.ready(unit);
    if (reports) {
      client.report({.step = directive.step + 1,
                     .replica = place.replica,
                     .context = place.context,
                     .loss_sum = 1,
                     .count = 1});
    }
    directive = client.directive();
    client.await_all();
    seconds.push_back(seconds_now() - begin);
  }
  client.finish();
  return seconds;
}

/// All but the first of kSteps steps; none on a rank that is no worker.
std::vector<double> steps_of_ranks(const RunConfig& config, index_t bucket_bytes,
                                   const Comm& world) {
  const Layout& layout = config.layout;
  const BucketPlan plan = plan_with(config, bucket_bytes);
  const Comm host = world.host();
  DataPlane plane(world, host, plan, config.transport,
                  ps::waits_for_all(config.server.consistency));
  std::optional<ps::Server> server;
  std::optional<ps::ServerLoop> loop;
  if (layout.is_server(world.rank())) {
    server.emplace(plan, layout.server(world.rank()), server_config(config), plane.server_memory());
    loop.emplace(world, plan, layout.server(world.rank()), *server, plane, [] { return false; });
  }
  std::vector<double> seconds;
  if (layout.is_worker(world.rank())) {
    seconds = steps_of_worker(config, plan, world, plane, loop ? &*loop : nullptr);
    seconds.erase(seconds.begin());
  } else {
    loop->run();
  }
  world.barrier();  // nobody takes the next size's messages for this one's
  return seconds;
}

/// What server 0 does in all but the first of kSteps steps.
std::vector<double> steps_of_server(const RunConfig& config, index_t bucket_bytes) {
  const BucketPlan plan = plan_with(config, bucket_bytes);
  ps::Store store(plan, 0, config.server.optimizer, 1);
  std::vector<index_t> replicas(static_cast<std::size_t>(config.layout.replicas));
  std::iota(replicas.begin(), replicas.end(), index_t{0});
  std::vector<double> seconds;
  for (index_t step = 1; step <= kSteps; ++step) {
    const double begin = seconds_now();
    for (index_t bucket : store.buckets()) {
      for (index_t each = 0; each < store.contributor_count(bucket); ++each) {
        store.arrived(bucket, each);
      }
      store.sum(bucket, replicas);
    }
    const Directive directive = {
        .update = step, .contributors = replicas, .step = step, .factor = 1, .rate = 1e-3};
    for (index_t bucket : store.buckets()) {
      if (has_trust(config.server.optimizer)) store.make_direction(bucket, directive);
    }
    const std::vector<double> trust(plan.specs().size(), 1);
    for (index_t bucket : store.buckets()) store.apply(bucket, directive, trust);
    if (step > 1) seconds.push_back(seconds_now() - begin);
  }
  return seconds;
}

}  // namespace

BucketTrials measure_buckets(const RunConfig& config, const Comm* world) {
  const RunConfig small = with_few_layers(config);
  BucketTrials result;
  std::vector<std::vector<double>> seconds(std::size(kSizes));
  const double begin = seconds_now();
  for (double elapsed = 0; elapsed < kRoundSeconds && result.rounds < kRoundsMax; ++result.rounds) {
    for (std::size_t at = 0; at < seconds.size(); ++at) {
      const std::vector<double> more =
          world ? steps_of_ranks(small, kSizes[at], *world) : steps_of_server(small, kSizes[at]);
      seconds[at].insert(seconds[at].end(), more.begin(), more.end());
    }
    elapsed = seconds_now() - begin;
    if (world) elapsed = world->max(elapsed);
  }
  for (std::size_t at = 0; at < seconds.size(); ++at) {
    const BucketPlan plan = plan_with(small, kSizes[at]);
    result.parameter_bytes = bytes_of(plan);
    const double own = seconds[at].empty() ? 0 : median(seconds[at]);  // none: no worker
    result.trials.push_back({.bucket_bytes = kSizes[at],
                             .bucket_count = std::ssize(plan.buckets()),
                             .seconds = world ? world->max(own) : own});
  }
  return result;
}

index_t recommended_bucket_bytes(const std::vector<BucketTrial>& trials) {
  WEIR_ASSERT(!trials.empty());
  const double best = std::ranges::min(trials, {}, &BucketTrial::seconds).seconds;
  return std::ranges::find_if(
             trials, [&](const BucketTrial& each) { return each.seconds <= kAsGood * best; })
      ->bucket_bytes;
}

std::string trials_text(const RunConfig& config, const BucketTrials& trials, bool with_ranks) {
  Table table("rrrr", {"bucket at most", "buckets", "a step", "parameters"});
  for (const BucketTrial& each : trials.trials) {
    table.add({bytes_text(each.bucket_bytes), grouped(each.bucket_count),
               text(fixed(1000 * each.seconds, 2), " ms"),
               text(fixed(static_cast<double>(trials.parameter_bytes) / each.seconds * 1e-9, 2),
                    " GB/s")});
  }
  const index_t chosen = recommended_bucket_bytes(trials.trials);
  return text(
      "sizes of buckets, tried with ", bytes_text(trials.parameter_bytes), " of parameters",
      with_ranks ? " on these ranks: push, sum, optimizer and pull, medians of "
                 : " on one core: the sum and optimizer of server 0 without what travelling costs "
                   "(start it under mpirun for that), medians of ",
      trials.rounds * (kSteps - 1), " steps\n", table.to_text(), "recommended: --bucket-bytes ",
      chosen,
      chosen == config.bucket_bytes ? ", as it is" : text(" (it is ", config.bucket_bytes, ")"),
      "; the smallest within 3 % of the best. The ring's depth is no option: 1 to 8 are alike "
      "(common/README.md)\n");
}

}  // namespace weir
