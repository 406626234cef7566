#include <doctest/doctest.h>

#include <set>

#include "common/io/checkpoint_format.hpp"
#include "ps/save/resume.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

ServerConfig config_with(const ConsistencyConfig& consistency, index_t steps,
                         OptimizerKind optimizer = OptimizerKind::adamw) {
  ServerConfig config = server_config(steps);
  config.optimizer.kind = optimizer;
  config.consistency = consistency;
  config.training.micro_batch = 2;
  return config;
}

const std::vector<ConsistencyConfig> kModes = {{.mode = Consistency::ssp, .staleness = 2},
                                               {.mode = Consistency::asp},
                                               {.mode = Consistency::bsp, .backup = 1}};

/// lamb has a round more between the servers.
constexpr OptimizerKind kOptimizers[] = {OptimizerKind::adamw, OptimizerKind::lamb};

}  // namespace

TEST_CASE("ssp, asp and backups: a replayed run has the bits of the first, on any servers") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::vector<std::pair<ConsistencyConfig, OptimizerKind>> cases;
  for (const ConsistencyConfig& mode : kModes) {
    for (OptimizerKind optimizer : kOptimizers) cases.emplace_back(mode, optimizer);
  }
  for (const auto& [mode, optimizer] : cases) {
    CAPTURE(name_of(mode.mode));
    CAPTURE(name_of(optimizer));
    const TemporaryFolder folder;
    ServerConfig config = config_with(mode, 12, optimizer);
    config.training.eval_every = 5;
    config.decisions = folder.path() / "decisions.jsonl";
    const BucketPlan plan = plan_of({.replicas = 4, .stages = 2, .servers = 2});
    SimulatedJob first(plan, config, seed);
    std::mt19937 random(seed);
    first.held_up = [&](index_t replica) { return replica == 1 && random() % 10 > 0; };
    first.run();
    CHECK(first.directives.back().order.stop);
    CHECK(first.directives.back().step == 12);
    for (const auto& server : first.servers) CHECK(server->done());

    for (index_t servers : {1, 2, 3}) {
      CAPTURE(servers);
      ServerConfig again = config;
      again.replay = config.decisions;
      again.decisions = folder.path() / text("again-", servers, ".jsonl");
      const BucketPlan spread = plan_of({.replicas = 4, .stages = 2, .servers = servers}, 200000);
      SimulatedJob second(spread, again, seed + 1);
      second.run();
      CHECK(second.weights() == first.weights());
      REQUIRE(second.directives.size() == first.directives.size());
      for (std::size_t at = 0; at < first.directives.size(); ++at) {
        CHECK(second.directives[at].replicas.contributors ==
              first.directives[at].replicas.contributors);
        CHECK(second.directives[at].replicas.dropped == first.directives[at].replicas.dropped);
        CHECK(second.directives[at].replicas.again == first.directives[at].replicas.again);
        CHECK(second.directives[at].observed.norm == first.directives[at].observed.norm);
        CHECK(second.directives[at].observed.loss == first.directives[at].observed.loss);
      }
    }
  }
}

TEST_CASE("with backups every sample is taken once, those of dropped contributions later") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  const BucketPlan plan = plan_of({.replicas = 4});
  SimulatedJob job(plan, config_with({.backup = 1, .grace = 0}, 60), seed);
  std::mt19937 random(seed);
  job.held_up = [&](index_t replica) { return replica == 2 && random() % 20 > 0; };
  job.run();
  // A batch of 8 in 4 micro-batches: one a replica. What each step read, from its directive.
  std::multiset<index_t> taken;
  index_t left_out = 0;
  Directive before = job.directives.front();
  for (const Directive& directive : job.directives) {
    if (directive.replicas.contributors.empty()) continue;
    for (index_t replica : directive.replicas.contributors) {
      const index_t again = before.replicas.again.size();
      taken.insert(replica < again ? before.replicas.again[replica]
                                   : before.cursor + 2 * (replica - again));
    }
    left_out += 4 - std::ssize(directive.replicas.contributors);
    before = directive;
  }
  CHECK(left_out > 0);
  CHECK(job.directives.back().observed.dropped_count > 0);
  // All up to the cursor but those that the next step would take up again, each once.
  for (index_t sample : before.replicas.again) taken.insert(sample);
  CHECK(std::ssize(taken) == before.cursor / 2);
  index_t next = 0;
  for (index_t sample : taken) {
    CHECK(sample == next);
    next += 2;
  }
}

TEST_CASE("a checkpoint and a stop see one state: all replicas have done the same steps") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (const ConsistencyConfig& mode : kModes) {
    CAPTURE(name_of(mode.mode));
    const TemporaryFolder folder;
    ServerConfig config = config_with(mode, 10);
    config.checkpoint.folder = folder.path() / "checkpoints";
    config.checkpoint.every = 4;
    config.decisions = folder.path() / "decisions.jsonl";
    const BucketPlan plan = plan_of({.replicas = 3, .servers = 2});
    SimulatedJob whole(plan, config, seed);
    whole.run();
    std::vector<index_t> saved;
    for (const Directive& directive : whole.directives) {
      if (!directive.order.checkpoint) continue;
      saved.push_back(directive.replicas.released.front().step);
      for (const Release& each : directive.replicas.released) CHECK(each.step == saved.back());
      CHECK(directive.replicas.released.size() == 3);
    }
    CHECK(saved == std::vector<index_t>{4, 8, 10});

    // From the checkpoint of step 4, with the same decisions, the same end.
    ServerConfig rest = config;
    rest.replay = config.decisions;
    rest.decisions.clear();
    rest.checkpoint.folder.clear();
    const BucketPlan one = plan_of({.replicas = 3, .servers = 1});
    SimulatedJob resumed(one, rest, seed + 1);
    resumed.load(checkpoint_folder(config.checkpoint.folder, 4));
    resumed.run();
    CHECK(resumed.weights() == whole.weights());
    CHECK(resumed.directives.back().update == whole.directives.back().update);

    // Asked to stop, it ends where all can be.
    SimulatedJob stopped(plan, config_with(mode, 1000), seed);
    std::mt19937 random(seed);
    stopped.held_up = [&](index_t replica) {
      if (stopped.directives.back().step > 20) stopped.servers[0]->on(Stop{});
      return replica == 1 && random() % 4 > 0;
    };
    stopped.run();
    CHECK(stopped.directives.back().order.stop);
    CHECK(stopped.directives.back().step > 20);
    CHECK(stopped.directives.back().step < 100);
  }
}

TEST_CASE("a server that owns nothing keeps pace") {
  const BucketPlan plan = plan_of({.replicas = 3, .servers = 4}, 1 << 30);
  REQUIRE(plan.buckets().size() < 4);
  for (const ConsistencyConfig& mode : kModes) {
    for (OptimizerKind optimizer : kOptimizers) {
      SimulatedJob job(plan, config_with(mode, 20, optimizer), 5);
      job.run();
      CHECK(job.directives.back().step == 20);
    }
  }
}

TEST_CASE("a checkpoint of every consistency goes on in every other, where it was") {
  const QuietLog quiet;
  std::vector<ConsistencyConfig> modes = kModes;
  modes.push_back({.mode = Consistency::bsp});
  modes.push_back({.mode = Consistency::local});  // as its servers have it, of rounds of one step
  const BucketPlan plan = plan_of({.replicas = 3, .servers = 2});
  const BucketPlan other = plan_of({.replicas = 2, .servers = 1});
  for (const ConsistencyConfig& before : modes) {
    const TemporaryFolder folder;
    ServerConfig config = config_with(before, 5, OptimizerKind::sgd);
    config.consistency.grace = 100;  // nobody is left out
    config.checkpoint.folder = folder.path();
    SimulatedJob first(plan, config, 1);
    first.run();
    const Parameters weights = first.weights();
    for (const ConsistencyConfig& after : modes) {
      CAPTURE(name_of(before.mode));
      CAPTURE(name_of(after.mode));
      ServerConfig rest = config_with(after, 9, OptimizerKind::sgd);
      rest.consistency.grace = 100;
      SimulatedJob second(other, rest, 2);
      second.load(checkpoint_folder(folder.path(), 5));
      CHECK(second.weights() == weights);
      second.run();
      CHECK(second.directives.front().step == 5);
      CHECK(second.directives.front().cursor == 5 * 8);
      CHECK(second.directives.back().step == 9);
      CHECK(second.directives.back().cursor == 9 * 8);
      CHECK(second.directives.back().order.stop);
    }
  }
}

TEST_CASE("from rounds to steps moments begin anew, and so does their bias correction") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({});
  ServerConfig rounds = config_with({.mode = Consistency::local}, 5, OptimizerKind::sgd);
  rounds.checkpoint.folder = folder.path();
  rounds.checkpoint.notes = {{"optimizer.kind", "adamw"}, {"clip.policy", "decay"}};
  SimulatedJob first(plan, rounds, 1);
  first.run();
  const Manifest manifest = read_manifest(checkpoint_folder(folder.path(), 5));
  CHECK(manifest.settings.at("optimizer.kind") == "adamw");  // the job's, not the rounds'
  CHECK(manifest.settings.at("clip.policy") == "decay");

  ServerConfig steps = config_with({}, 7);
  steps.rate = {.schedule = RateSchedule::constant, .peak = 0.01};
  steps.checkpoint.folder = folder.path();
  steps.checkpoint.every = 6;
  SimulatedJob second(plan, steps, 1);
  second.load(checkpoint_folder(folder.path(), 5));
  SimulatedJob fresh(plan, steps, 1);  // the same weights at step 0
  fresh.servers[0]->take_weights(second.servers[0]->weight_arena());
  const auto same = [](index_t, index_t salt, index_t parameter, index_t element) {
    return made_up(salt, parameter, element);
  };
  second.gradient = fresh.gradient = same;
  second.run();
  fresh.run(2);
  CHECK(second.directives.back().step == 7);
  CHECK(second.weights() == fresh.weights());

  // And from there on to the same bits: the checkpoint of step 6 tells where the moments began.
  SimulatedJob third(plan, steps, 1);
  third.gradient = same;
  third.load(checkpoint_folder(folder.path(), 6));
  third.run();
  CHECK(third.weights() == second.weights());
}

TEST_CASE("early checkpoints of local steps counted rounds: they go on at the right step") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({});
  ServerConfig config = config_with({}, 3, OptimizerKind::sgd);  // three rounds, as they were saved
  config.clip.policy = ClipPolicy::none;
  config.checkpoint.folder = folder.path();
  config.checkpoint.notes = {{"consistency", "local"}, {"local.steps", "4"}};
  SimulatedJob(plan, config, 1).run();
  const fs::path checkpoint = checkpoint_folder(folder.path(), 3);
  CHECK(steps_done(read_manifest(checkpoint)) == 12);
  CHECK(in_steps(read_manifest(checkpoint)).step == 12);
  CHECK_FALSE(in_steps(read_manifest(checkpoint)).settings.contains("optimizer.kind"));

  SimulatedJob steps(plan, config_with({}, 14), 1);
  steps.load(checkpoint);
  CHECK(steps.servers[0]->start().step == 12);
  ServerConfig rounds =
      config_with({.mode = Consistency::local, .round_steps = 8}, 24, OptimizerKind::sgd);
  Server server(plan, 0, rounds);
  server.load(checkpoint);
  CHECK(server.start().step == 12);
  CHECK_FALSE(server.start().order.stop);

  config.checkpoint.notes["local.steps"] = "many";
  SimulatedJob(plan, config, 1).run();
  CHECK_THROWS_WITH_AS(steps_done(read_manifest(checkpoint)),
                       doctest::Contains("the setting local.steps `many`"), Error);
}

TEST_CASE("a round ends at the next multiple of its steps, wherever training began") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.replicas = 2});
  for (index_t backup : {0, 1}) {
    CAPTURE(backup);
    ServerConfig steps = config_with({}, 6, OptimizerKind::sgd);
    steps.checkpoint.folder = folder.path();
    SimulatedJob(plan, steps, 1).run();
    ServerConfig rounds = config_with(
        {.mode = Consistency::local, .backup = backup, .round_steps = 4}, 16, OptimizerKind::sgd);
    Server server(plan, 0, rounds);
    server.load(checkpoint_folder(folder.path(), 6));
    const auto sent = [&](index_t bucket) {
      for (int reader = 0; reader < 2; ++reader) server.on_sent(bucket);
    };
    std::ranges::for_each(server.buckets(), sent);  // what training begins with
    for (const index_t step : {8, 12, 16}) {
      for (index_t replica : {0, 1}) {
        server.on(Report{.step = step, .replica = replica, .loss_sum = 9, .count = 3});
        for (index_t bucket : server.buckets()) server.on_contribution(bucket, replica);
      }
      while (server.poll()) {
        while (const auto output = server.next_output()) {
          if (const auto* of = std::get_if<BucketStepped>(&*output)) sent(of->bucket);
        }
      }
      CHECK(server.directive().step == step);
      CHECK(server.directive().cursor == 8 * step);
      CHECK(server.directive().order.stop == (step == 16));
    }
  }
}
