#include "ps/decide/rollback.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "common/io/checkpoint_format.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

/// Goes back after three bad steps in a row.
ServerConfig config_with_rollback(index_t steps) {
  ServerConfig config = server_config(steps);
  config.rollback.bad_steps = 3;
  config.rate = {.schedule = RateSchedule::constant, .peak = 0.01};
  return config;
}

/// About 1,000, with some noise, and five times as much in the steps first … last.
std::function<double(index_t)> loss_with_spike(index_t first, index_t last) {
  return [=](index_t update) {
    const double noise = 10 * std::sin(static_cast<double>(update * update));
    return (first <= update && update <= last ? 5 : 1) * (1000 + noise);
  };
}

std::vector<index_t> rollbacks_of(const SimulatedJob& job) {
  std::vector<index_t> steps;
  for (const Directive& each : job.directives) {
    if (each.rule.skip == SkipReason::rollback) steps.push_back(each.step);
  }
  return steps;
}

}  // namespace

TEST_CASE("after bad steps in a row every server has the state that it kept, whatever they did") {
  const QuietLog quiet;
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  Parameters expected;
  for (index_t servers = 1; servers <= 3; ++servers) {
    CAPTURE(servers);
    const BucketPlan plan =
        plan_of({.replicas = 2, .stages = 2, .servers = servers}, 65536 * servers);
    SimulatedJob until(plan, config_with_rollback(100), seed);
    until.loss_sum = loss_with_spike(47, 49);
    until.run(40);  // the last that is kept
    SimulatedJob job(plan, config_with_rollback(100), seed + 1);
    job.loss_sum = loss_with_spike(47, 49);
    job.run(48);
    CHECK(job.weights() != until.weights());
    SimulatedJob back(plan, config_with_rollback(100), seed + 2);
    back.loss_sum = loss_with_spike(47, 49);
    back.run(49);
    CHECK(back.weights() == until.weights());
    CHECK(rollbacks_of(back) == std::vector<index_t>{49});
    const Directive& last = back.directives.back();
    CHECK(last.cursor == 49 * 8);  // data go on
    CHECK(last.observed.skipped_count == 9);
    CHECK(std::bit_cast<std::uint64_t>(last.observed.threshold) ==
          std::bit_cast<std::uint64_t>(until.directives.back().observed.threshold));
    if (servers == 1) expected = back.weights();
    CHECK(back.weights() == expected);
  }
}

TEST_CASE("overflows of fp16 are no bad steps: the loss scale answers them") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({});
  ServerConfig config = config_with_rollback(60);
  config.training.precision = Precision::fp16;
  SimulatedJob job(plan, config, 1);
  job.gradient = [](index_t update, index_t salt, index_t parameter, index_t element) {
    if (40 <= update && update < 50) return std::numeric_limits<float>::infinity();
    return made_up(1000 * update + salt, parameter, element);
  };
  job.loss_sum = loss_with_spike(0, 0);
  job.run();
  CHECK(rollbacks_of(job).empty());
  CHECK(job.directives.back().observed.skipped_count == 10);
  CHECK(job.directives.back().order.loss_scale == 64);
}

TEST_CASE("readers get the weights that are put back, also where the wire is not raw") {
  const QuietLog quiet;
  const WireConfig wire = {.push = {}, .pull = {WireFormat::bf16}};
  const BucketPlan plan(small_parameters(), {0, 0, 0, 0}, {.servers = 2}, 1 << 17, wire);
  SimulatedJob job(plan, config_with_rollback(100), 1);
  job.loss_sum = loss_with_spike(47, 49);
  job.run(49);
  REQUIRE(rollbacks_of(job) == std::vector<index_t>{49});
  for (const auto& server : job.servers) {
    for (index_t bucket : server->buckets()) {
      const std::span<const float> weights = server->weights(bucket);
      std::vector<std::byte> frame(wire.pull.bytes(weights.size()));
      encode(wire.pull, weights, {}, frame);
      CHECK(std::ranges::equal(server->weight_frame(bucket), frame));
    }
  }
}

TEST_CASE("after a rollback training goes on as if the steps between had not been") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.servers = 2});
  for (const ClipPolicy policy : {ClipPolicy::decay, ClipPolicy::robust}) {
    ServerConfig config = config_with_rollback(100);
    config.clip.policy = policy;
    // The gradients of steps 43 on, in one run behind 40 steps, in the other behind a rollback.
    const auto of_step = [](index_t step, index_t salt, index_t parameter, index_t element) {
      return made_up(1000 * step + salt, parameter, element);
    };
    SimulatedJob without(plan, config, 1);
    without.gradient = [&](index_t step, index_t salt, index_t parameter, index_t element) {
      return of_step(step > 40 ? step + 3 : step, salt, parameter, element);
    };
    without.loss_sum = loss_with_spike(0, 0);
    without.run(55);
    SimulatedJob with(plan, config, 2);
    with.gradient = of_step;
    with.loss_sum = loss_with_spike(41, 43);
    with.run(58);
    CHECK(rollbacks_of(with) == std::vector<index_t>{43});
    CHECK(with.weights() == without.weights());
    CHECK(with.directives.back().observed.threshold ==
          without.directives.back().observed.threshold);
  }
}

TEST_CASE("weights that a spike has broken for good are mended") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.replicas = 2, .servers = 2});
  ServerConfig config = config_with_rollback(60);
  config.clip.policy = ClipPolicy::none;
  // A finite gradient takes a weight far away with SGD; from then on nothing is a number.
  config.optimizer.kind = OptimizerKind::sgd;
  SimulatedJob spiked(plan, config, 3);
  spiked.gradient = [&](index_t step, index_t salt, index_t parameter, index_t element) {
    if (step == 45 && parameter == 0 && element == 7) return -1e30F;
    if (step > 45 && step <= 48) return std::numeric_limits<float>::quiet_NaN();
    return made_up(1000 * step + salt, parameter, element);
  };
  spiked.loss_sum = loss_with_spike(0, 0);
  spiked.run(47);
  CHECK(spiked.weights()[0][7] > 1e20F);
  SimulatedJob mended(plan, config, 4);
  mended.gradient = spiked.gradient;
  mended.loss_sum = spiked.loss_sum;
  mended.run(60);
  CHECK(rollbacks_of(mended) == std::vector<index_t>{48});
  CHECK(mended.weights()[0][7] < 1e3F);
}

TEST_CASE("a job resumed from a checkpoint goes back to where the undisturbed one does") {
  const QuietLog quiet;
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  const TemporaryFolder folder, other;
  ServerConfig config = config_with_rollback(70);
  config.checkpoint.folder = folder.path();
  config.checkpoint.every = 36;
  config.checkpoint.keep = 10;
  const BucketPlan two = plan_of({.replicas = 2, .servers = 2});
  SimulatedJob undisturbed(two, config, seed);
  undisturbed.loss_sum = [](index_t update) {  // step 36 is a bad one, and three from 45 on
    return loss_with_spike(45, 47)(update) * (update == 36 ? 5 : 1);
  };
  undisturbed.run();
  CHECK(rollbacks_of(undisturbed) == std::vector<index_t>{47});
  // The checkpoint that was due at step 36 waited for three good steps in a row.
  REQUIRE(std::filesystem::exists(checkpoint_folder(folder.path(), 39)));
  CHECK(!std::filesystem::exists(checkpoint_folder(folder.path(), 36)));
  CHECK(undisturbed.directives[47].observed.skipped_count == 8);  // 40 … 47 are undone
  for (index_t servers : {1, 3}) {
    CAPTURE(servers);
    config.checkpoint.folder = other.path() / text(servers);
    const BucketPlan plan = plan_of({.replicas = 2, .servers = servers}, 70000);
    SimulatedJob resumed(plan, config, seed + 1);
    resumed.loss_sum = undisturbed.loss_sum;
    resumed.load(checkpoint_folder(folder.path(), 39));
    resumed.run();
    CHECK(rollbacks_of(resumed) == std::vector<index_t>{47});
    CHECK(resumed.weights() == undisturbed.weights());
    CHECK(resumed.directives.back().observed.threshold ==
          undisturbed.directives.back().observed.threshold);
    CHECK(resumed.directives.back().observed.skipped_count ==
          undisturbed.directives.back().observed.skipped_count);
  }
}

TEST_CASE("a replayed run goes back where the first did, to the bit") {
  const QuietLog quiet;
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (const ConsistencyConfig& mode :
       {ConsistencyConfig{.mode = Consistency::ssp, .staleness = 2}, {.backup = 1}}) {
    const TemporaryFolder folder;
    ServerConfig config = config_with_rollback(60);
    config.consistency = mode;
    config.training.micro_batch = 2;
    config.decisions = folder.path() / "decisions.jsonl";
    const BucketPlan plan = plan_of({.replicas = 4, .servers = 2});
    SimulatedJob first(plan, config, seed);
    std::mt19937 random(seed);
    first.held_up = [&](index_t replica) { return replica == 1 && random() % 4 > 0; };
    first.loss_sum = loss_with_spike(45, 49);
    first.run();
    CHECK(!rollbacks_of(first).empty());
    config.replay = config.decisions;
    config.decisions = folder.path() / "again.jsonl";
    const BucketPlan three = plan_of({.replicas = 4, .servers = 3}, 100000);
    SimulatedJob second(three, config, seed + 1);
    second.loss_sum = first.loss_sum;
    second.run();
    CHECK(rollbacks_of(second) == rollbacks_of(first));
    CHECK(second.weights() == first.weights());
  }
}

TEST_CASE("a loss that stays high is taken for usual after three times, and nothing is undone") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({});
  SimulatedJob job(plan, config_with_rollback(100), 5);
  job.loss_sum = loss_with_spike(41, 1000);
  job.run();
  CHECK(rollbacks_of(job) == std::vector<index_t>{43, 46, 49});
  CHECK(job.directives.back().observed.skipped_count == 9);
}

TEST_CASE("with --rollback 0 nothing is kept and nothing goes back") {
  const BucketPlan plan = plan_of({});
  ServerConfig config = config_with_rollback(60);
  config.rollback.bad_steps = 0;
  SimulatedJob job(plan, config, 6);
  job.loss_sum = loss_with_spike(41, 50);
  job.run();
  CHECK(rollbacks_of(job).empty());
  CHECK(
      std::ranges::none_of(job.directives, [](const Directive& each) { return each.order.keep; }));
  CHECK(job.directives.back().observed.skipped_count == 0);
}
