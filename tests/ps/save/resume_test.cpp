#include "ps/save/resume.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <fstream>

#include "tests/ps/save/saving.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

/// The second update is skipped, so that steps done and steps applied differ.
float with_a_skip(index_t update, index_t salt, index_t parameter, index_t element) {
  if (update == 2) return std::nanf("");
  return made_up(1000 * update + salt, parameter, element);
}

}  // namespace

TEST_CASE("resumed on any number of servers, training goes on to the bit") {
  const QuietLog quiet;
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  const TemporaryFolder folder;
  Layout layout = {.replicas = 2, .stages = 2, .servers = 2};
  const BucketPlan plan = plan_of(layout);
  SimulatedJob undisturbed(plan, saving(folder.path(), 6, 3), seed);
  undisturbed.gradient = with_a_skip;
  undisturbed.run();
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000003", "step-00000006"});
  CHECK(undisturbed.servers[0]->save_totals().count == 2);
  const Parameters expected = undisturbed.weights();
  for (index_t servers = 1; servers <= 3; ++servers) {
    CAPTURE(servers);
    layout.servers = servers;
    const TemporaryFolder other;
    const BucketPlan other_plan = plan_of(layout, 70000 * servers);
    SimulatedJob resumed(other_plan, saving(other.path(), 6, 3), seed + 1);
    resumed.gradient = with_a_skip;
    resumed.load(checkpoint_folder(folder.path(), 3));
    resumed.run();
    REQUIRE(resumed.directives.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      const Directive& was = undisturbed.directives[i + 3];
      const Directive& is = resumed.directives[i];
      CHECK(is.step == was.step);
      CHECK(is.cursor == was.cursor);
      CHECK(is.observed.skipped_count == 1);
      CHECK(std::bit_cast<std::uint64_t>(is.observed.threshold) ==
            std::bit_cast<std::uint64_t>(was.observed.threshold));
      if (i > 0) CHECK(is.observed.norm == was.observed.norm);
      if (i > 0) CHECK(is.rule.factor == was.rule.factor);
    }
    CHECK(resumed.weights() == expected);
  }
}

TEST_CASE("every optimizer: fifty steps, a checkpoint and fifty more are a hundred, to the bit") {
  const QuietLog quiet;
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::vector<OptimizerConfig> optimizers = every_optimizer();
  optimizers.push_back({.clips_updates = true});  // for clip.policy update_rms
  for (const OptimizerConfig& optimizer : optimizers) {
    CAPTURE(name_of(optimizer.kind));
    const TemporaryFolder folder, other;
    const BucketPlan two = plan_of({.replicas = 2, .servers = 2}, 70000);
    ServerConfig config = saving(folder.path(), 100, 50);
    config.optimizer = optimizer;
    if (optimizer.clips_updates) config.clip.policy = ClipPolicy::update_rms;
    SimulatedJob undisturbed(two, config, seed);
    undisturbed.gradient = with_a_skip;
    undisturbed.run();
    const BucketPlan three = plan_of({.replicas = 2, .servers = 3});
    config.checkpoint.folder = other.path();
    SimulatedJob resumed(three, config, seed + 1);
    resumed.gradient = with_a_skip;
    resumed.load(checkpoint_folder(folder.path(), 50));
    resumed.run();
    CHECK(resumed.directives.back().step == 100);
    CHECK(resumed.weights() == undisturbed.weights());
  }
}

TEST_CASE("any layout of workers reads the same weights") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.shards = 2, .servers = 2});
  SimulatedJob job(plan, saving(folder.path(), 2, 0), 1);
  job.run();
  const Parameters expected = job.weights();
  for (index_t stages = 1; stages <= 2; ++stages) {
    for (index_t shards = 1; shards <= 3; ++shards) {
      const BucketPlan other = plan_of({.stages = stages, .shards = shards, .servers = 3});
      SimulatedJob resumed(other, saving(folder.path(), 5, 0), 1);
      resumed.load(checkpoint_folder(folder.path(), 2));
      CHECK(resumed.weights() == expected);
      CHECK(resumed.servers[2]->start().step == 2);
    }
  }
  SimulatedJob ended(plan, saving(folder.path(), 2, 0), 1);
  ended.load(checkpoint_folder(folder.path(), 2));
  CHECK(ended.servers[0]->start().order.stop);
  CHECK(ended.servers[1]->done());
}

TEST_CASE("a checkpoint of another model is refused with a list of what differs") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({});
  SimulatedJob(plan, saving(folder.path(), 1, 0), 1).run();
  const fs::path checkpoint = checkpoint_folder(folder.path(), 1);
  std::vector<ParameterSpec> other = small_parameters();
  other[0].shape = {501, 68};
  other[2].name = "layers.1.question";
  const BucketPlan other_plan = plan_of({}, 1 << 17, other);
  ServerConfig config = saving(folder.path(), 1, 0);
  config.checkpoint.settings["model.heads"] = "8";
  config.checkpoint.settings["model.window"] = "16";
  Server server(other_plan, 0, config);
  const std::string message = message_of([&] { server.load(checkpoint); });
  contains(message, "/model/embedding: shape 501 x 67 in the checkpoint, 501 x 68 here");
  contains(message, "/model/layers.1.question: missing in the checkpoint");
  contains(message, "/model/layers.1.query: in the checkpoint, unknown here");
  contains(message, "model.heads: 4 in the checkpoint, 8 here");
  contains(message, "model.window: not in the checkpoint, here 16");
  contains(message, "another --run");
}

TEST_CASE("obsolete parameters of a checkpoint are dropped; all others are as they were") {
  const TemporaryFolder folder;
  std::vector<ParameterSpec> old = small_parameters();
  old.insert(old.begin() + 2, spec("layers.1.key.bias", {67}, true, {1}));
  for (const ClipPolicy policy : {ClipPolicy::decay, ClipPolicy::per_tensor}) {
    const fs::path checkpoints = folder.path() / text(static_cast<int>(policy));
    const BucketPlan old_plan = plan_of({}, 1 << 17, old);
    ServerConfig config = saving(checkpoints, 3, 0);
    config.clip.policy = policy;
    SimulatedJob before(old_plan, config, 1);
    before.run();
    Parameters expected = before.weights();
    expected.erase(expected.begin() + 2);

    const QuietLog quiet;
    const BucketPlan plan = plan_of({});
    const fs::path checkpoint = checkpoint_folder(checkpoints, 3);
    Server refused(plan, 0, config);
    contains(message_of([&] { refused.load(checkpoint); }), "layers.1.key.bias: in the checkpoint");
    config.checkpoint.obsolete = {"layers.0.key.bias", "layers.1.key.bias"};
    SimulatedJob after(plan, config, 1);
    after.load(checkpoint);
    CHECK(after.weights() == expected);
  }
}

TEST_CASE("a checkpoint of another optimizer is refused; another clip starts from its beginning") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({});
  SimulatedJob(plan, saving(folder.path(), 1, 0), 1).run();
  const fs::path checkpoint = checkpoint_folder(folder.path(), 1);
  ServerConfig config = saving(folder.path(), 2, 0);
  config.optimizer.kind = OptimizerKind::sgd;
  Server sgd(plan, 0, config);
  contains(message_of([&] { sgd.load(checkpoint); }), "resume with optimizer.kind = adamw");
  config.optimizer.kind = OptimizerKind::lamb;  // though its moments have the same names
  Server lamb(plan, 0, config);
  contains(message_of([&] { lamb.load(checkpoint); }), "whose state lamb cannot use");
  const QuietLog quiet;
  config = saving(folder.path(), 2, 0);
  config.clip.policy = ClipPolicy::fixed;
  config.clip.max_norm = 5;
  Server fixed(plan, 0, config);
  fixed.load(checkpoint);
  CHECK(fixed.start().observed.threshold == 5);
}

TEST_CASE("counters that no training counts to are refused by name") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({});
  SimulatedJob(plan, saving(folder.path(), 1, 0), 1).run();
  const fs::path checkpoint = checkpoint_folder(folder.path(), 1);
  const Manifest manifest = read_manifest(checkpoint);
  for (const char* name : {"update", "skipped", "dropped", "skips_in_a_row"}) {
    Manifest hostile = manifest;
    hostile.integers[name] = std::numeric_limits<index_t>::max();
    std::ofstream(checkpoint / "MANIFEST") << manifest_text(hostile);
    Server server(plan, 0, saving(folder.path(), 2, 0));
    contains(message_of([&] { server.load(checkpoint); }),
             text("the integer ", name, " 9223372036854775807, more than the"));
  }
}

TEST_CASE("a damaged or truncated checkpoint is refused with the parameter or the file") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({});
  SimulatedJob(plan, saving(folder.path(), 1, 0), 1).run();
  const fs::path checkpoint = checkpoint_folder(folder.path(), 1);
  const CheckpointReader reader(checkpoint);
  const CheckpointRecord& record =
      reader.manifest().records[*reader.find("/optimizer/mean/final_norm")];
  {
    std::fstream file(checkpoint / "model.h5", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(record.offset + 9);
    file.put('!');
  }
  Server server(plan, 0, saving(folder.path(), 2, 0));
  contains(message_of([&] { server.load(checkpoint); }), "/optimizer/mean/final_norm");
  fs::resize_file(checkpoint / "model.h5", 5000);
  Server again(plan, 0, saving(folder.path(), 2, 0));
  contains(message_of([&] { again.load(checkpoint); }), "truncated");
}
