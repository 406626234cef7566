#include <doctest/doctest.h>

#include <set>

#include "common/io/checkpoint_format.hpp"
#include "ps/decision_log.hpp"
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
  config.micro_batch = 2;
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
    config.meet_every = 5;
    config.decisions = folder.path() / "decisions.jsonl";
    const BucketPlan plan = plan_of({.replicas = 4, .stages = 2, .servers = 2});
    SimulatedJob first(plan, config, seed);
    std::mt19937 random(seed);
    first.held_up = [&](index_t replica) { return replica == 1 && random() % 10 > 0; };
    first.run();
    CHECK(first.directives.back().stop);
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
        CHECK(second.directives[at].contributors == first.directives[at].contributors);
        CHECK(second.directives[at].dropped == first.directives[at].dropped);
        CHECK(second.directives[at].again == first.directives[at].again);
        CHECK(second.directives[at].norm == first.directives[at].norm);
        CHECK(second.directives[at].loss == first.directives[at].loss);
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
    if (directive.contributors.empty()) continue;
    for (index_t replica : directive.contributors) {
      const auto again = static_cast<index_t>(before.again.size());
      taken.insert(replica < again ? before.again[static_cast<std::size_t>(replica)]
                                   : before.cursor + 2 * (replica - again));
    }
    left_out += 4 - std::ssize(directive.contributors);
    before = directive;
  }
  CHECK(left_out > 0);
  CHECK(job.directives.back().dropped_count > 0);
  // All up to the cursor but those that the next step would take up again, each once.
  for (index_t sample : before.again) taken.insert(sample);
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
      if (!directive.checkpoint) continue;
      saved.push_back(directive.released.front().step);
      for (const Release& each : directive.released) CHECK(each.step == saved.back());
      CHECK(directive.released.size() == 3);
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
      if (stopped.directives.back().step > 20) stopped.servers[0]->request_stop();
      return replica == 1 && random() % 4 > 0;
    };
    stopped.run();
    CHECK(stopped.directives.back().stop);
    CHECK(stopped.directives.back().step > 20);
    CHECK(stopped.directives.back().step < 100);
  }
}

TEST_CASE("a log that ends in the middle of a line, or is of another job, is handled as such") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "decisions.jsonl";
  const ConsistencyConfig config = {.mode = Consistency::asp};
  {
    DecisionLog log(path, config, 3, 0);
    log.append({Decision::Kind::close, {1}}, 1, 0);
    log.append({Decision::Kind::close, {0}}, 2, 0);
    log.append({Decision::Kind::close, {2}}, 3, 0);
  }
  CHECK(read_decisions(path, config, 3).size() == 3);
  CHECK(read_decisions(path, config, 3).back().update == 3);
  CHECK(read_decisions(path, config, 3).back().decision.replicas == std::vector<index_t>{2});
  std::ofstream(path, std::ios::app) << "{\"update\":4,\"clo";
  CHECK(read_decisions(path, config, 3).size() == 3);
  CHECK_THROWS_WITH_AS(read_decisions(path, config, 4), doctest::Contains("the settings it was"),
                       Error);
  {
    DecisionLog log(path, config, 3, 1);  // goes on after update 1
    log.append({Decision::Kind::share, {2, 1, 1}}, 2, 0);
  }
  const auto kept = read_decisions(path, config, 3);
  REQUIRE(kept.size() == 2);
  CHECK(kept[0].decision == Decision{Decision::Kind::close, {1}});
  CHECK(kept[1].decision == Decision{Decision::Kind::share, {2, 1, 1}});
  std::ofstream(path, std::ios::app) << "{\"update\":4,\"close\":3}\n";
  CHECK_THROWS_WITH_AS(read_decisions(path, config, 3), doctest::Contains("line 4 is no decision"),
                       Error);
  CHECK_THROWS_WITH_AS(read_decisions(folder.path() / "none", config, 3),
                       doctest::Contains("cannot read decisions"), Error);
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
