#include <doctest/doctest.h>

#include <limits>

#include "common/io/checkpoint_format.hpp"
#include "common/wire/wire.hpp"
#include "ps/local_service.hpp"
#include "ps/local_steps.hpp"
#include "ps/save/resume.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

// Loss scaling on the servers: an overflow is skipped, answered with a lower scale, and leaves no
// other trace. The scaled gradients themselves are the workers' affair: here they are made up.

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

ServerConfig fp16_config(index_t steps) {
  ServerConfig config = server_config(steps);
  config.training.precision = Precision::fp16;
  config.loss_scale = {.initial = 1024, .growth_steps = 3, .floor = 1};
  config.rate = {.schedule = RateSchedule::constant, .peak = 0.01};
  return config;
}

/// One infinite element, in the contribution of replica 1, in each of these updates.
SimulatedJob::Gradient overflowing(std::vector<index_t> updates) {
  return [updates = std::move(updates)](index_t update, index_t salt, index_t parameter,
                                        index_t element) {
    const bool overflows = std::ranges::find(updates, update) != updates.end();
    if (overflows && salt == 1 && parameter == 3 && element == 17955) return kInfinity;
    return made_up(1000 * update + salt, parameter, element);
  };
}

std::vector<double> scales_of(const SimulatedJob& job) {
  std::vector<double> scales;
  for (const Directive& each : job.directives) scales.push_back(each.order.loss_scale);
  return scales;
}

}  // namespace

TEST_CASE("one infinite element: every server skips, the scale halves, and nothing else changes") {
  const QuietLog quiet;
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (index_t servers = 1; servers <= 3; ++servers) {
    CAPTURE(servers);
    const BucketPlan plan = plan_of({.replicas = 2, .servers = servers});
    SimulatedJob good(plan, fp16_config(9), seed);
    good.run(2);
    SimulatedJob job(plan, fp16_config(9), seed + 1);
    job.gradient = overflowing({3});
    job.run(3);
    const Directive& skipped = job.directives[3];
    CHECK(skipped.rule.skip == SkipReason::overflow);
    CHECK(skipped.observed.skipped_count == 1);
    CHECK(skipped.step == 3);
    CHECK(skipped.cursor == 24);
    CHECK(skipped.observed.threshold == good.directives[2].observed.threshold);
    CHECK(scales_of(job) == std::vector<double>{1024, 1024, 1024, 512});
    CHECK(job.weights() == good.weights());
  }
}

TEST_CASE("later steps are those of a run without the overflow, in moments and clip, too") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.replicas = 2, .servers = 2});
  SimulatedJob without(plan, fp16_config(9), 1);
  without.run(5);
  SimulatedJob with(plan, fp16_config(9), 2);
  const auto overflow = overflowing({3});
  with.gradient = [&](index_t update, index_t salt, index_t parameter, index_t element) {
    return update == 3
               ? overflow(update, salt, parameter, element)
               : made_up(1000 * (update > 3 ? update - 1 : update) + salt, parameter, element);
  };
  with.run(6);
  CHECK(with.weights() == without.weights());
  CHECK(with.directives[6].observed.threshold == without.directives[5].observed.threshold);
}

TEST_CASE("a loss that is not finite is not the scale's fault: neither halved nor counted anew") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.replicas = 2});
  SimulatedJob loss(plan, fp16_config(9), 1);
  loss.loss_sum = [](index_t update) { return update == 3 ? std::nan("") : 1.0; };
  loss.run(4);
  CHECK(loss.directives[3].rule.skip == SkipReason::not_finite);
  CHECK(scales_of(loss) == std::vector<double>{1024, 1024, 1024, 1024, 2048});
}

TEST_CASE("resumed anywhere amid growth, hysteresis and back-off, a job goes on to the bit") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.replicas = 2, .servers = 2});
  const BucketPlan other = plan_of({.replicas = 2, .servers = 3}, 100000);
  constexpr index_t kEnd = 14;
  const auto gradient = overflowing({2, 3, 5, 8, 9, 10});
  const auto config_of = [&](index_t steps) {
    ServerConfig config = fp16_config(steps);
    config.loss_scale.hysteresis = 2;
    return config;
  };
  SimulatedJob whole(plan, config_of(kEnd), 1);
  whole.gradient = gradient;
  whole.run();
  const std::vector<double> scales = scales_of(whole);
  CHECK(scales == std::vector<double>{1024, 1024, 1024, 512, 512, 256, 256, 256, 128, 64, 32, 32,
                                      32, 64, 64});
  for (index_t stop = 1; stop < kEnd; ++stop) {  // at skipped steps, too: the last one is saved
    CAPTURE(stop);
    const TemporaryFolder folder;
    ServerConfig first = config_of(stop);
    first.checkpoint.folder = folder.path();
    SimulatedJob before(plan, first, 2);
    before.gradient = gradient;
    before.run();
    SimulatedJob after(other, config_of(kEnd), 3);
    after.gradient = gradient;
    after.load(checkpoint_folder(folder.path(), stop));
    after.run();
    CHECK(after.weights() == whole.weights());
    CHECK(std::ranges::equal(scales_of(after),
                             std::span(scales).subspan(static_cast<std::size_t>(stop))));
  }
}

TEST_CASE("checkpoints of every precision resume in every other; those without a scale begin it") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({});
  for (const auto& [before, from] : kPrecisionNames) {
    const TemporaryFolder folder;
    ServerConfig config = fp16_config(5);
    config.training.precision = from;
    config.checkpoint.folder = folder.path();
    SimulatedJob first(plan, config, 1);
    first.run();
    const fs::path checkpoint = checkpoint_folder(folder.path(), 5);
    const bool has_scale = read_manifest(checkpoint).numbers.contains("loss_scale.0");
    CHECK(has_scale == (from == Precision::fp16));  // fp32 has the MANIFEST that it always had
    for (const auto& [after, to] : kPrecisionNames) {
      CAPTURE(before);
      CAPTURE(after);
      ServerConfig rest = fp16_config(9);
      rest.training.precision = to;
      SimulatedJob second(plan, rest, 2);
      second.load(checkpoint);
      CHECK(second.weights() == first.weights());
      const double scale = second.servers[0]->start().order.loss_scale;
      CHECK(scale == (to != Precision::fp16 ? 1 : from == Precision::fp16 ? 2048 : 1024));
      second.run();
      CHECK(second.directives.back().step == 9);
    }
  }
}

TEST_CASE("ssp and asp: a late overflow with the scale from before does not lower it again") {
  const QuietLog quiet;
  for (const Consistency mode : {Consistency::ssp, Consistency::asp}) {
    CAPTURE(name_of(mode));
    const BucketPlan plan = plan_of({.replicas = 3});
    ServerConfig config = fp16_config(50);
    config.consistency = {.mode = mode, .staleness = 5};
    config.training.micro_batch = 2;
    Server server(plan, 0, config);
    const auto sent = [&](index_t bucket, std::size_t readers) {
      for (std::size_t reader = 0; reader < readers; ++reader) server.on_sent(bucket);
    };
    for (index_t bucket : server.buckets()) sent(bucket, 3);
    std::vector<index_t> steps(3, 0);
    /// The step of a replica, with what its pull has told it; the scale that it goes on with.
    const auto step = [&](index_t replica, double scale, bool overflows) {
      server.on(Report{.step = ++steps[static_cast<std::size_t>(replica)],
                       .replica = replica,
                       .loss_sum = 9,
                       .count = 3,
                       .loss_scale = scale});
      for (index_t bucket : server.buckets()) {
        std::ranges::fill(server.contribution(bucket, replica), 0.01F);
        if (overflows) server.contribution(bucket, replica)[1] = kInfinity;
        server.on_contribution(bucket, replica);
      }
      while (server.poll()) {
        while (const auto output = server.next_output()) {
          if (const auto* of = std::get_if<BucketStepped>(&*output)) {
            sent(of->bucket, server.directive().replicas.released.size());
          }
        }
      }
      CHECK(server.directive().replicas.contributors == std::vector<index_t>{replica});
      CHECK((server.directive().rule.skip == SkipReason::overflow) == overflows);
      return server.directive().order.loss_scale;
    };
    CHECK(step(0, 1024, true) == 512);
    CHECK(step(1, 1024, true) == 512);  // began before that
    CHECK(step(0, 512, true) == 256);
    CHECK(step(1, 512, true) == 256);
    CHECK(step(2, 1024, true) == 256);  // has slept all the time
    CHECK(step(2, 256, false) == 256);
    CHECK(step(0, 256, false) == 256);
    CHECK(step(1, 256, false) == 512);  // three clean updates
    CHECK(step(0, 256, false) == 512);
  }
}

TEST_CASE("fifty overflows in a row end an fp16 job with its own way out, and the floor holds") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.replicas = 2});
  ServerConfig config = fp16_config(100);
  SimulatedJob job(plan, config, 3);
  job.gradient = [](index_t, index_t, index_t, index_t) { return kInfinity; };
  CHECK_THROWS_WITH_AS(job.run(), doctest::Contains("--precision bf16"), Error);
  REQUIRE(job.directives.size() == 50);
  CHECK(job.directives[10].order.loss_scale == 1);
  CHECK(job.directives[10].rule.skip == SkipReason::overflow);
  CHECK(job.directives[11].rule.skip == SkipReason::not_finite);  // not the scale's fault any more
  CHECK(job.directives[49].order.loss_scale == 1);
}

namespace {

/// A replica of `local` and its servers in this process, from the newest checkpoint on: the scale
/// at the start and after each step.
std::vector<double> local_scales(const fs::path& checkpoints, index_t steps,
                                 index_t overflowing_step) {
  const BucketPlan plan =
      plan_of({.placement = Placement::local}, 1 << 17, {spec("embedding", {9, 7}, true, {0, 3})});
  ServerConfig both = fp16_config(steps);
  both.consistency.mode = Consistency::local;
  both.checkpoint.folder = checkpoints;
  both.checkpoint.every = 4;
  both.checkpoint.notes = {{"replicas", "1"}};
  const fs::path newest = newest_complete(checkpoints).value_or(fs::path());
  Server server(plan, 0, server_config_of_rounds(both, {.steps = 4}));
  if (!newest.empty()) server.load(newest);
  Server own(plan, 0, server_config_of_replica(both, 0));
  LocalService servers(server, plan, [] { return false; });
  LocalSteps service(servers, own, plan, both, {.round_steps = 4}, newest);
  Directive directive = service.start();
  std::vector<double> scales = {directive.order.loss_scale};
  while (!directive.order.stop) {
    service.begin_update();
    std::ranges::fill(as<float>(service.gradients()),
                      directive.step + 1 == overflowing_step ? kInfinity : 0.01F);
    for (index_t unit = 3; unit >= 0; --unit) service.ready(unit);
    service.report({.step = directive.step + 1,
                    .replica = 0,
                    .loss_sum = 100,
                    .count = 700,
                    .loss_scale = directive.order.loss_scale});
    directive = service.directive();
    CHECK((directive.rule.skip == SkipReason::overflow) == (directive.step == overflowing_step));
    scales.push_back(directive.order.loss_scale);
    service.await(0);
  }
  service.await_all();
  service.finish();
  return scales;
}

}  // namespace

TEST_CASE("local: the scale is a replica's own, in its own checkpoint; what travels has none") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  CHECK(local_scales(folder.path(), 4, 2) == std::vector<double>{1024, 1024, 512, 512, 512});
  const auto has_scale = [&](const fs::path& checkpoints) {
    return read_manifest(checkpoint_folder(checkpoints, 4)).numbers.contains("loss_scale.0");
  };
  CHECK_FALSE(has_scale(folder.path()));
  CHECK(has_scale(replica_checkpoints(folder.path(), 0)));
  // Two clean steps before the end of the first life, the third after it.
  CHECK(local_scales(folder.path(), 8, 0) == std::vector<double>{512, 1024, 1024, 1024, 2048});
}

TEST_CASE(
    "what is not finite in a push is skipped, whatever the wire, the optimizer and the clip") {
  const QuietLog quiet;
  const float bad[] = {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()};
  const Wire wires[] = {{WireFormat::fp32},
                        {WireFormat::bf16},
                        {WireFormat::fp16},
                        {WireFormat::int8},
                        {WireFormat::topk, 5}};
  for (const Wire& wire : wires) {
    const BucketPlan plan(small_parameters(), {0, 0, 0, 0}, {.replicas = 2}, 1 << 17,
                          {.push = wire, .pull = {}});
    for (const OptimizerConfig& optimizer : every_optimizer()) {
      for (const ClipPolicy clip :
           {ClipPolicy::none, ClipPolicy::decay, ClipPolicy::robust, ClipPolicy::per_tensor}) {
        CAPTURE(int(wire.format));
        CAPTURE(name_of(optimizer.kind));
        CAPTURE(name_of(clip));
        ServerConfig config = fp16_config(50);
        config.optimizer = optimizer;
        config.clip.policy = clip;
        Server server(plan, 0, config);
        const auto update = [&](index_t number, float spoilt) {
          for (const index_t bucket : server.buckets()) {
            std::vector<float> values(server.weights(bucket).size(), 0.01F);
            for (const index_t replica : {0, 1}) {
              if (replica == 1 && bucket == server.buckets().back()) values[3] = spoilt;
              std::vector<float> residual(wire.keeps_residual() ? values.size() : 0);
              encode(wire, values, residual, server.contribution_frame(bucket, replica));
              server.on_contribution(bucket, replica);
            }
          }
          for (const index_t replica : {0, 1}) {
            server.on(Report{.step = number,
                             .replica = replica,
                             .loss_sum = 9,
                             .count = 3,
                             .loss_scale = server.directive().order.loss_scale});
          }
          while (server.poll()) {
          }
          while (server.next_output()) {
          }
          return server.directive().rule.skip;
        };
        const auto weights = [&] {
          std::vector<float> all;
          for (const index_t bucket : server.buckets()) {
            const auto values = server.weights(bucket);
            all.insert(all.end(), values.begin(), values.end());
          }
          return all;
        };
        CHECK(update(1, 0.01F) == SkipReason::none);
        const std::vector<float> before = weights();
        for (index_t each = 0; each < 3; ++each) {
          CHECK(update(2 + each, bad[each]) == SkipReason::overflow);
        }
        CHECK(weights() == before);
        CHECK(update(5, 0.01F) == SkipReason::none);
        CHECK(std::ranges::all_of(weights(), [](float value) { return std::isfinite(value); }));
      }
    }
  }
}
