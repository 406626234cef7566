#include "launch/plan/measure_buckets.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/job/data_plane.hpp"
#include "common/net/mpi.hpp"
#include "common/number/median.hpp"
#include "launch/cut.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/table.hpp"
#include "ps/server.hpp"
#include "ps/server_loop.hpp"
#include "worker/train/server_client.hpp"

namespace weir {
namespace {

constexpr index_t kSizes[] = {65536, 131072, 262144, 524288, 1048576, 2097152, 4194304};
constexpr index_t kDepths[] = {1, 2, 4, 8, 16};
constexpr index_t kRoundsMax =
    4;  ///< each over all values, so that a busy moment affects them alike
constexpr double kRoundSeconds = 1.5;  ///< seconds after which no round begins
constexpr index_t kSteps = 5;          ///< steps of a round; the first one warms up
constexpr double kAsGood = 1.03;

index_t bytes_of(const BucketPlan& plan) {
  index_t elements = 0;
  for (const ParameterSpec& spec : plan.specs()) elements += spec.element_count();
  return elements * weir::bytes_of(kArenaDtype);
}

BucketPlan plan_of(const RunConfig& config) {
  return make_bucket_plan(config, first_units(config));
}

DataPlane plane_of(const RunConfig& config, const Comm& world, const Comm& host,
                   const BucketPlan& plan) {
  return DataPlane(world, host, plan, config.transport,
                   ps::waits_for_all(config.server.consistency), config.ring_depth);
}

RunConfig with_few_layers(RunConfig config) {
  while (config.model.layers > pipeline_of(config.train, config.layout).chunks() &&
         bytes_of(plan_of(config)) > kTrialBytes) {
    --config.model.layers;
  }
  return config;
}

ps::ServerConfig server_config(const RunConfig& config) {
  ps::ServerConfig server;
  server.optimizer = config.server.optimizer;
  server.clip.policy = ps::ClipPolicy::none;
  server.training = config.train.training;
  server.training.steps = kSteps;
  server.training.eval_every = 0;
  server.training.balance = BalanceKind::even;
  return server;
}

/// The seconds of each step of this worker.
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
  const bool reports = place.stage + 1 == layout.stages && place.shard == 0;
  std::vector<double> seconds;
  for (Directive directive = client.start(); !directive.order.stop;) {
    client.await_all();
    client.begin_update();
    const double begin = seconds_now();
    for (index_t unit = plan.unit_stage().size(); unit-- > 0;) {
      if (plan.unit_stage()[unit] == place.stage) client.ready(unit);
    }
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

/// The seconds of all but the first of kSteps steps; none on a rank that is no worker.
std::vector<double> steps_of_ranks(const RunConfig& config, const Comm& world) {
  const Layout& layout = config.layout;
  const BucketPlan plan = plan_of(config);
  const Comm host = world.host();
  DataPlane plane = plane_of(config, world, host, plan);
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
  world.barrier();  // no rank may take the next trial's messages for this one's
  return seconds;
}

/// What server 0 does in all but the first of kSteps steps.
std::vector<double> steps_of_server(const RunConfig& config) {
  const BucketPlan plan = plan_of(config);
  ps::Store store(plan, 0, config.server.optimizer, 1);
  std::vector<index_t> replicas(config.layout.replicas);
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
    const Directive directive = {.update = step,
                                 .step = step,
                                 .replicas = {.contributors = replicas},
                                 .rule = {.factor = 1, .rate = 1e-3}};
    for (index_t bucket : store.buckets()) {
      if (has_trust(config.server.optimizer)) store.make_direction(bucket, directive);
    }
    const std::vector<double> trust(plan.specs().size(), 1);
    for (index_t bucket : store.buckets()) store.apply(bucket, directive, trust);
    if (step > 1) seconds.push_back(seconds_now() - begin);
  }
  return seconds;
}

/// Times each configuration for some seconds, in turn over all. `value`: the option in which they
/// differ.
std::vector<Trial> try_all(const std::vector<RunConfig>& configs, index_t RunConfig::*value,
                           const Comm* world, index_t& rounds) {
  std::vector<std::vector<double>> seconds(configs.size());
  const double begin = seconds_now();
  rounds = 0;
  for (double elapsed = 0; elapsed < kRoundSeconds && rounds < kRoundsMax; ++rounds) {
    for (std::size_t at = 0; at < configs.size(); ++at) {
      const std::vector<double> more =
          world ? steps_of_ranks(configs[at], *world) : steps_of_server(configs[at]);
      seconds[at].insert(seconds[at].end(), more.begin(), more.end());
    }
    elapsed = seconds_now() - begin;
    if (world) elapsed = world->max(elapsed);
  }
  std::vector<Trial> trials;
  for (std::size_t at = 0; at < configs.size(); ++at) {
    const double own = seconds[at].empty() ? 0 : median(seconds[at]);  // none: no worker
    trials.push_back({.value = configs[at].*value,
                      .bucket_count = std::ssize(plan_of(configs[at]).buckets()),
                      .seconds = world ? world->max(own) : own});
  }
  return trials;
}

/// Whether some worker and some server that are different ranks have no window. Collective.
bool by_messages(const RunConfig& config, const Comm& world) {
  const BucketPlan plan = plan_of(config);
  const Comm host = world.host();
  const DataPlane plane = plane_of(config, world, host, plan);
  const Layout& layout = config.layout;
  const index_t self = world.rank();
  double found = 0;
  for (index_t server = 0; server < layout.servers && layout.is_worker(self); ++server) {
    const index_t rank = layout.rank_of_server(server);
    if (rank != self && !plane.by_window_with(static_cast<int>(rank))) found = 1;
  }
  return world.max(found) > 0;
}

std::string recommendation(const char* option, index_t chosen, index_t present) {
  return text("recommended: --", option, " ", chosen,
              chosen == present ? ", as it is" : text(" (it is ", present, ")"),
              "; the smallest within 3 % of the best\n");
}

}  // namespace

BucketTrials measure_buckets(const RunConfig& config, const Comm* world) {
  RunConfig small = with_few_layers(config);
  BucketTrials result = {
      .parameter_bytes = bytes_of(plan_of(small)), .bucket_bytes = {}, .ring_depths = {}};
  std::vector<RunConfig> variants(std::size(kSizes), small);
  for (std::size_t at = 0; at < variants.size(); ++at) variants[at].bucket_bytes = kSizes[at];
  result.bucket_bytes = try_all(variants, &RunConfig::bucket_bytes, world, result.rounds);
  if (world == nullptr || !by_messages(small, *world)) return result;
  small.bucket_bytes = recommended(result.bucket_bytes);
  variants.assign(std::size(kDepths), small);
  for (std::size_t at = 0; at < variants.size(); ++at) variants[at].ring_depth = kDepths[at];
  index_t rounds = 0;
  result.ring_depths = try_all(variants, &RunConfig::ring_depth, world, rounds);
  return result;
}

index_t recommended(const std::vector<Trial>& trials) {
  WEIR_ASSERT(!trials.empty());
  const double best = std::ranges::min(trials, {}, &Trial::seconds).seconds;
  return std::ranges::find_if(trials,
                              [&](const Trial& each) { return each.seconds <= kAsGood * best; })
      ->value;
}

std::string trials_text(const RunConfig& config, const BucketTrials& trials, bool with_ranks) {
  const auto milliseconds = [](const Trial& each) {
    return text(fixed(1000 * each.seconds, 2), " ms");
  };
  const auto rate = [&](const Trial& each) {
    return text(fixed(static_cast<double>(trials.parameter_bytes) / each.seconds * 1e-9, 2),
                " GB/s");
  };
  Table sizes("rrrr", {"bucket at most", "buckets", "a step", "parameters"});
  for (const Trial& each : trials.bucket_bytes) {
    sizes.add({bytes_text(each.value), grouped(each.bucket_count), milliseconds(each), rate(each)});
  }
  std::string out = text(
      "sizes of buckets, tried with ", bytes_text(trials.parameter_bytes), " of parameters",
      with_ranks ? " on these ranks: push, sum, optimizer and pull, medians of "
                 : " on one core: the sum and optimizer of server 0 without what travelling costs "
                   "(start it under mpirun for that), medians of ",
      trials.rounds * (kSteps - 1), " steps\n", sizes.to_text(),
      recommendation("bucket-bytes", recommended(trials.bucket_bytes), config.bucket_bytes));
  if (trials.ring_depths.empty()) {
    return out +
           (with_ranks ? "no buckets travel as messages here: --ring-depth does not matter\n" : "");
  }
  Table depths("rrr", {"under way at once", "a step", "parameters"});
  for (const Trial& each : trials.ring_depths) {
    depths.add({grouped(each.value), milliseconds(each), rate(each)});
  }
  return out +
         text("depths of the ring, with buckets as recommended\n", depths.to_text(),
              recommendation("ring-depth", recommended(trials.ring_depths), config.ring_depth));
}

}  // namespace weir
