#include "ps/local_service.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "common/io/checkpoint_format.hpp"
#include "common/wire/narrow.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::test;

namespace {

/// A worker whose gradients are made up: those that SimulatedJob makes up, too.
std::vector<Directive> train(ParameterService& service, const BucketPlan& plan) {
  std::vector<Directive> directives = {service.start()};
  while (!directives.back().order.stop) {
    const index_t update = directives.back().update + 1;
    service.begin_update();
    CHECK(std::ranges::all_of(as<float>(service.gradients()),
                              [](float value) { return value == 0; }));
    for (index_t unit = 3; unit >= 0; --unit) {
      for (const HeldSlice& slice : plan.holding({}).slices) {
        const ParameterSpec& spec = plan.specs()[slice.parameter];
        if (spec.units.front() != unit) continue;
        for (index_t i = 0; i < slice.range.count(); ++i) {
          as<float>(service.gradients())[slice.offset + i] +=
              made_up(1000 * update, slice.parameter, slice.range.begin + i);
        }
      }
      service.ready(unit);
      service.progress();
    }
    service.report({.step = update,
                    .replica = 0,
                    .loss_sum = 100.0 / static_cast<double>(update),
                    .count = 700});
    directives.push_back(service.directive());
    service.await(0);
  }
  service.await_all();
  service.finish();
  return directives;
}

}  // namespace

TEST_CASE("in one process, without a copy, training has the bits of one with several servers") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.placement = Placement::local});
  ps::ServerConfig config = server_config(4);
  config.checkpoint.folder = folder.path();
  ps::Server server(plan, 0, config);
  ps::LocalService service(server, plan, [] { return false; });
  CHECK(as<float>(service.weights()).data() ==
        server.weights(plan.holding({}).buckets[0].bucket).data());
  const std::vector<Directive> directives = train(service, plan);

  const BucketPlan spread = plan_of({.servers = 3});
  SimulatedJob job(spread, server_config(4), 9);
  job.run();
  REQUIRE(directives.size() == job.directives.size());
  CHECK(directives.back().observed.norm == job.directives.back().observed.norm);
  const Parameters weights = job.weights();
  for (const HeldSlice& slice : plan.holding({}).slices) {
    CHECK(std::ranges::equal(
        weights[slice.parameter],
        as<float>(service.weights()).subspan(slice.offset, slice.range.count())));
  }
  CHECK(newest_complete(folder.path())->filename() == "step-00000004");
  CHECK(service.waited_seconds() > 0);
}

TEST_CASE("with every optimizer a checkpoint is the same, made while idle or as late as may be") {
  std::vector<ps::OptimizerConfig> optimizers = every_optimizer();
  optimizers.push_back({.clips_updates = true});  // for clip.policy update_rms
  for (const ps::OptimizerConfig& optimizer : optimizers) {
    CAPTURE(name_of(optimizer.kind));
    std::vector<std::uint32_t> digests[2];
    for (const bool idle : {true, false}) {
      const TemporaryFolder folder;
      const BucketPlan plan = plan_of({.placement = Placement::local});
      ps::ServerConfig config = server_config(4);
      config.optimizer = optimizer;
      if (optimizer.clips_updates) config.clip.policy = ClipPolicy::update_rms;
      config.checkpoint.every = 2;
      config.checkpoint.folder = folder.path();
      ps::Server server(plan, 0, config);
      ps::LocalService service(server, plan, [] { return false; });
      service.start();
      for (index_t step = 1; step <= 4; ++step) {
        service.begin_update();
        std::ranges::fill(as<float>(service.gradients()), 0.5F);
        for (index_t unit = 3; unit >= 0; --unit) service.ready(unit);
        service.report({.step = step, .replica = 0, .loss_sum = 1, .count = 700});
        service.directive();
        service.await_all();
        while (idle && service.progress()) {
        }
      }
      service.finish();
      const Manifest manifest = read_manifest(checkpoint_folder(folder.path(), 2));
      for (const RangeDigest& each : manifest.digests) digests[idle].push_back(each.crc);
    }
    CHECK(digests[0].size() > 3);
    CHECK(digests[0] == digests[1]);
  }
}

TEST_CASE("a checkpoint holds the weights of its step though the next step comes before the copy") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.placement = Placement::local});
  ps::ServerConfig config = server_config(4);
  config.checkpoint.every = 2;
  config.checkpoint.folder = folder.path();
  ps::Server server(plan, 0, config);
  ps::LocalService service(server, plan, [] { return false; });
  service.start();
  std::vector<float> weights;
  for (index_t step = 1; step <= 4; ++step) {  // progress() is not called: nothing is idle
    service.begin_update();
    std::ranges::fill(as<float>(service.gradients()), 0.5F);
    for (index_t unit = 3; unit >= 0; --unit) service.ready(unit);
    service.report({.step = step, .replica = 0, .loss_sum = 1, .count = 700});
    service.directive();
    const std::span<const float> now = as<float>(service.weights());
    if (step == 2) weights.assign(now.begin(), now.end());
    if (step == 3) CHECK_FALSE(std::ranges::equal(now, weights));
  }
  service.finish();
  const CheckpointReader reader(checkpoint_folder(folder.path(), 2));
  for (const HeldSlice& slice : plan.holding({}).slices) {
    const std::string& name = plan.specs()[slice.parameter].name;
    CAPTURE(name);
    std::vector<float> saved(static_cast<std::size_t>(slice.range.count()));
    reader.read(reader.find("/model/" + name).value(), 0, saved);
    CHECK(std::ranges::equal(saved, std::span(weights).subspan(slice.offset, slice.range.count())));
  }
}

TEST_CASE("in one process a worker of low precision reads the server's weights rounded") {
  const BucketPlan plan =
      plan_of({.placement = Placement::local}, 1 << 17, small_parameters(), Dtype::bf16);
  const TemporaryFolder folder;
  ps::ServerConfig config = server_config(4);
  config.checkpoint.folder = folder.path();
  ps::Server server(plan, 0, config);
  ps::LocalService service(server, plan, [] { return false; });
  const auto check = [&] {
    const Memory rounded(plan.holding({}).element_count, bytes_of(Dtype::bf16));
    round_to(server.weight_arena(), rounded.elements(Dtype::bf16));
    CHECK(service.weights().dtype() == Dtype::bf16);
    CHECK(std::ranges::equal(service.weights().bytes(), rounded.elements(Dtype::bf16).bytes()));
  };
  check();
  train(service, plan);
  check();
  std::vector<float> others(server.weight_arena().size(), 1.37F);
  server.take_weights(others);
  CHECK(std::ranges::equal(server.weight_arena(), others));
  check();
}

TEST_CASE("in one process a request to stop ends the present update") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.placement = Placement::local});
  ps::ServerConfig config = server_config(400);
  config.checkpoint.folder = folder.path();
  ps::Server server(plan, 0, config);
  int asked = 0;
  ps::LocalService service(server, plan, [&] { return ++asked == 3; });
  CHECK(train(service, plan).back().step == 3);
  CHECK(newest_complete(folder.path())->filename() == "step-00000003");
}
