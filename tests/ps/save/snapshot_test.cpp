#include "ps/save/snapshot.hpp"

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/resource.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cmath>
#include <fstream>

#include "common/io/checkpoint_format.hpp"
#include "tests/common/io/faulty_file_system.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

ServerConfig saving(const fs::path& folder, index_t steps, index_t every) {
  ServerConfig config = server_config(steps);
  config.checkpoint.folder = folder;
  config.checkpoint.every = every;
  config.checkpoint.wait_s = 0;  // a disk that has failed for good need not be waited for
  config.checkpoint.retry_s = 0.001;
  config.checkpoint.settings = {{"model.layers", "2"}, {"model.heads", "4"}};
  return config;
}

/// The second update is skipped, so that steps done and steps applied differ.
float with_a_skip(index_t update, index_t salt, index_t parameter, index_t element) {
  if (update == 2) return std::nanf("");
  return made_up(1000 * update + salt, parameter, element);
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

/// A model of few elements, for sweeps over every call of a save.
std::vector<ParameterSpec> tiny_model() {
  return {spec("embedding", {9, 7}, true, {0, 3}), spec("layers.1.up", {33, 7}, true, {1}),
          spec("layers.2.norm", {7}, false, {2})};
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void contains(const std::string& message, const std::string& part) {
  CAPTURE(message);
  CAPTURE(part);
  CHECK(message.find(part) != std::string::npos);
}

/// The next output of this kind; others are dropped.
template <class Kind>
Kind next(Server& server) {
  for (int look = 0; look < 10000; ++look) {
    if (!server.poll()) std::this_thread::sleep_for(std::chrono::microseconds(100));
    while (const std::optional<Output> output = server.next_output()) {
      if (std::holds_alternative<Kind>(*output)) return std::get<Kind>(*output);
    }
  }
  FAIL("no such output came");
  return Kind();
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

TEST_CASE("saving changes no bit of the training") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.servers = 2});
  SimulatedJob saved(plan, saving(folder.path(), 5, 1), 1);
  SimulatedJob plain(plan, server_config(5), 2);
  saved.run();
  plain.run();
  CHECK(saved.weights() == plain.weights());
}

TEST_CASE("a request to stop ends with a checkpoint of that step") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.servers = 2});
  SimulatedJob job(plan, saving(folder.path(), 1000, 0), 1);
  job.servers[0]->on(Stop{});
  job.run();
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000001"});
}

TEST_CASE("the newest checkpoints stay, and those of later steps; what was left unfinished goes") {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "step-00000900");
  fs::create_directory(folder.path() / ".tmp-step-00000700");
  ServerConfig config = saving(folder.path(), 6, 1);
  config.checkpoint.keep = 2;
  const BucketPlan plan = plan_of({.servers = 2});
  SimulatedJob job(plan, config, 1);
  job.run();
  CHECK(names_in(folder.path()) ==
        std::vector<std::string>{"step-00000005", "step-00000006", "step-00000900"});
}

TEST_CASE(
    "one failing call, whichever: training goes on, and the last step is saved all the same") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_model());
  const auto run = [&](FileSystem& files, const fs::path& folder) {
    ServerConfig config = saving(folder, 2, 1);
    config.checkpoint.files = &files;
    SimulatedJob job(plan, config, 1);
    job.run();
    return job.servers[0]->save_totals().count;
  };
  FaultyFileSystem counter(kNever, false);
  const TemporaryFolder counted;
  CHECK(run(counter, counted.path()) == 2);
  REQUIRE(counter.calls() > 30);
  // Both saves make the same calls; beyond the first one, those of its retention.
  for (int fatal = 1; fatal <= counter.calls() / 2 + 4; ++fatal) {
    CAPTURE(fatal);
    const TemporaryFolder folder;
    FaultyFileSystem failing(fatal, false);
    CHECK(run(failing, folder.path()) >= 1);
    const auto newest = newest_complete(folder.path());
    REQUIRE(newest.has_value());
    CHECK(newest->filename() == "step-00000002");
    CheckpointReader(*newest).verify();
    for (const std::string& name : names_in(folder.path())) CHECK(!name.starts_with(".tmp"));
  }
}

TEST_CASE("killed at any call, a job leaves checkpoints that are whole") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_model());
  const TemporaryFolder start;
  SimulatedJob first(plan, saving(start.path(), 1, 0), 1);
  first.run();
  const auto resume_and_die = [&](int fatal, const fs::path& folder) {
    FaultyFileSystem dying(fatal, true);
    ServerConfig config = saving(folder, 3, 1);
    config.checkpoint.files = &dying;
    SimulatedJob job(plan, config, 1);
    job.load(checkpoint_folder(folder, 1));
    try {
      job.run();
    } catch (const Error&) {
    }
    return dying.calls();
  };
  const TemporaryFolder counted;
  fs::copy(start.path(), counted.path(), fs::copy_options::recursive);
  const int calls = resume_and_die(kNever, counted.path());
  std::vector<int> ends(4, 0);
  for (int fatal = 1; fatal <= calls; ++fatal) {
    CAPTURE(fatal);
    const TemporaryFolder folder;
    fs::copy(start.path(), folder.path(), fs::copy_options::recursive);
    resume_and_die(fatal, folder.path());
    const auto newest = newest_complete(folder.path());
    REQUIRE(newest.has_value());
    const CheckpointReader reader(*newest);
    reader.verify();
    ++ends[reader.manifest().step];
    if (fatal % 8 != 0) continue;
    SimulatedJob resumed(plan, saving(folder.path(), 3, 0), 1);
    resumed.load(*newest);
    resumed.run();
    CHECK(newest_complete(folder.path())->filename() == "step-00000003");
  }
  CHECK(ends[1] > 10);  // died in the first save
  CHECK(ends[2] > 10);  // in the second
}

/// The first `failures` tries of a save find the disk full.
void fill_disk(FaultyFileSystem& files, std::atomic<int>& failures) {
  files.fault = [&failures] {
    if (failures.fetch_sub(1) > 0) throw FileError("planted", ENOSPC);
  };
}

TEST_CASE("where the disk is full, the last save waits for room, on any number of servers") {
  const QuietLog quiet;
  for (const index_t servers : {1, 3}) {
    const TemporaryFolder folder;
    FaultyFileSystem files(kNever, false);
    std::atomic<int> failures = 20;  // ten tries: each removes what it has begun
    fill_disk(files, failures);
    const BucketPlan plan = plan_of({.servers = servers}, 1 << 17, tiny_model());
    ServerConfig config = saving(folder.path(), 2, 0);
    config.checkpoint.files = &files;
    config.checkpoint.wait_s = 60;
    SimulatedJob job(plan, config, 1);
    job.run();
    CHECK(failures <= 0);
    CHECK(newest_complete(folder.path()) == checkpoint_folder(folder.path(), 2));
    CHECK(job.servers[0]->save_totals().count == 1);
  }
}

TEST_CASE("the last save that finds no room in time ends the job and says where to make some") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  FaultyFileSystem files(kNever, false);
  std::atomic<int> failures = 1 << 30;
  fill_disk(files, failures);
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_model());
  ServerConfig config = saving(folder.path(), 2, 0);
  config.checkpoint.files = &files;
  SimulatedJob job(plan, config, 1);
  const std::string message = message_of([&] { job.run(); });
  contains(message,
           "the checkpoint of step 2 failed: planted; " + folder.path().string() + " has ");
  contains(message, " MiB free");
  contains(message, "a checkpoint needs 1 MiB: make room there");
  contains(message, "--checkpoint.wait");
}

TEST_CASE("two failures in a row are given up; the third save waits, then training goes on") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  FaultyFileSystem files(kNever, false);
  std::atomic<int> failures = 2 * 2 + 2 * 5;
  fill_disk(files, failures);
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_model());
  ServerConfig config = saving(folder.path(), 5, 1);
  config.checkpoint.keep = 9;
  config.checkpoint.files = &files;
  config.checkpoint.wait_s = 60;
  SimulatedJob job(plan, config, 1);
  job.run();
  CHECK(names_in(folder.path()) ==
        std::vector<std::string>{"step-00000003", "step-00000004", "step-00000005"});
}

TEST_CASE("three failures in a row end the job with the reason, if nobody is to wait") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.servers = 2});
  ServerConfig config = saving(folder.path() / "missing" / "missing", 9, 1);
  SimulatedJob job(plan, config, 1);
  const std::string message = message_of([&] { job.run(); });
  contains(message, "the third checkpoint in a row");
  contains(message, "cannot make the folder");
  CHECK(job.directives.size() >= 3);
}

TEST_CASE("a stop is answered while a save waits for room: the job ends when there is some") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  FaultyFileSystem files(kNever, false);
  std::atomic<int> failures = 1 << 30;
  fill_disk(files, failures);
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_model());
  ServerConfig config = saving(folder.path(), 1000, 1);
  config.checkpoint.files = &files;
  config.checkpoint.wait_s = 60;
  SimulatedJob job(plan, config, 1);
  job.gradient = [&](index_t update, index_t salt, index_t parameter, index_t element) {
    if (update == 4 && failures > 1000) {  // the save of step 3 waits, step 4 is not saved yet
      job.servers[0]->on(Stop{});
      failures = 50;
    }
    return made_up(1000 * update + salt, parameter, element);
  };
  job.run();
  CHECK(job.directives.back().order.stop);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000003", "step-00000004"});
}

#ifndef WEIR_SANITIZE  // they map more than any limit allows
TEST_CASE("a save for which no thread can be started is given up, and the next one succeeds") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_model());
  ServerConfig config = saving(folder.path(), 3, 1);
  config.checkpoint.wait_s = 60;
  SimulatedJob job(plan, config, 1);
  // A new thread's stack finds no room where the memory may not grow.
  pthread_attr_t before, large;
  pthread_getattr_default_np(&before);
  pthread_attr_init(&large);
  pthread_attr_setstacksize(&large, std::size_t{4} << 30);
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  const auto allow_threads = [&](bool allowed) {
    rlimit now = limit;
    if (!allowed) now.rlim_cur = std::min<rlim_t>(limit.rlim_max, rlim_t{4} << 30);
    setrlimit(RLIMIT_AS, &now);
    pthread_setattr_default_np(allowed ? &before : &large);
  };
  job.gradient = [&](index_t update, index_t salt, index_t parameter, index_t element) {
    allow_threads(update != 1 && update != 2);
    return made_up(1000 * update + salt, parameter, element);
  };
  job.run();
  allow_threads(true);
  pthread_attr_destroy(&large);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000003"});
}
#endif

TEST_CASE("a checkpoint of another model is refused with a list of what differs") {
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({});
  SimulatedJob(plan, saving(folder.path(), 1, 0), 1).run();
  const fs::path checkpoint = checkpoint_folder(folder.path(), 1);
  std::vector<ParameterSpec> other = small_model();
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
  std::vector<ParameterSpec> old = small_model();
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

TEST_CASE("server 0 may begin a save before another server has applied that update") {
  const TemporaryFolder folder;
  const BucketPlan plan(tiny_model(), {0, 0, 0, 0}, Layout{.shards = 2, .servers = 2}, 65536);
  const ServerConfig config = saving(folder.path(), 1, 1);
  Server zero(plan, 0, config);
  Server one(plan, 1, config);
  for (Server* server : {&zero, &one}) {
    REQUIRE(!server->buckets().empty());
    for (index_t bucket : server->buckets()) {
      for (float& value : server->contribution(bucket, 0)) value = 0.5f;
      server->on_contribution(bucket, 0);
    }
  }
  zero.on(Report{.step = 1, .replica = 0, .loss_sum = 3, .count = 2});
  zero.on(next<Partials>(one));
  one.on(next<Directive>(zero));
  one.on(next<SaveBegin>(zero));  // before one has polled
  zero.on(next<SavePrepared>(one));
  one.on(next<SaveEnd>(zero));
  CHECK(newest_complete(folder.path()).has_value());
}

TEST_CASE("a save begins where its own directive is, though another one is still being applied") {
  // The second replica comes too late for the only step; when it is let go, all have done it.
  const TemporaryFolder folder;
  const BucketPlan plan(tiny_model(), {0, 0, 0, 0},
                        Layout{.replicas = 2, .shards = 2, .servers = 2}, 65536);
  ServerConfig config = saving(folder.path() / "checkpoints", 1, 1);
  config.consistency.backup = 1;
  config.replay = folder.path() / "log";
  std::ofstream(config.replay) << R"({"kind":"decisions","consistency":"bsp","replicas":2})"
                                  "\n"
                               << R"({"update":1,"close":[0]})"
                                  "\n"
                               << R"({"update":1,"drop":[1]})"
                                  "\n";
  Server zero(plan, 0, config);
  Server one(plan, 1, config);
  const auto all_of_replica = [&](index_t replica) {
    for (Server* server : {&zero, &one}) {
      for (index_t bucket : server->buckets()) {
        const auto count = std::ssize(plan.buckets()[bucket].contributors);
        for (index_t each = 0; each < count; ++each) {
          std::ranges::fill(server->contribution(bucket, replica * count + each), 0.5f);
          server->on_contribution(bucket, replica * count + each);
        }
      }
    }
    zero.on(Report{.step = 1, .replica = replica, .loss_sum = 3, .count = 2});
    zero.on(next<Arrival>(one));
  };
  const auto weights_have_left = [&](Server& server) {
    for (index_t bucket : server.buckets()) {
      const auto readers = std::ssize(plan.buckets()[bucket].readers);
      for (index_t each = 0; each < 2 * readers; ++each) server.on_sent(bucket);
    }
  };
  all_of_replica(0);
  one.on(next<Close>(zero));
  zero.on(next<Partials>(one));
  const Directive step = next<Directive>(zero);
  CHECK(step.replicas.contributors == std::vector<index_t>{0});
  CHECK(!step.order.checkpoint);
  one.on(step);  // it cannot be applied: the weights before have not left
  all_of_replica(1);
  weights_have_left(zero);
  const Directive drop = next<Directive>(zero);
  CHECK(drop.replicas.dropped == std::vector<index_t>{1});
  CHECK(drop.order.checkpoint);
  one.on(drop);
  one.on(next<SaveBegin>(zero));
  while (one.poll()) continue;
  CHECK(one.directive().replicas.dropped.empty());  // the step still
  weights_have_left(one);
  zero.on(next<SavePrepared>(one));
  CHECK(one.directive().replicas.dropped == std::vector<index_t>{1});
  one.on(next<SaveEnd>(zero));
  CHECK(newest_complete(config.checkpoint.folder).has_value());
}

TEST_CASE("steps that are skipped drive out no checkpoint from before them") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.servers = 2});
  SimulatedJob job(plan, saving(folder.path(), 9, 2), 1);
  job.gradient = [](index_t update, index_t salt, index_t parameter, index_t element) {
    if (update >= 4 && update <= 6) return std::nanf("");
    return made_up(1000 * update + salt, parameter, element);
  };
  job.run();
  std::vector<index_t> saved;
  for (const Directive& directive : job.directives) {
    if (directive.order.checkpoint) saved.push_back(directive.step);
  }
  CHECK(saved == std::vector<index_t>{2, 7, 8, 9});  // what was due at 4 waits for 7
}
