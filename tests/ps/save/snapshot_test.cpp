#include "ps/save/snapshot.hpp"

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <fstream>

#include "tests/common/io/faulty_file_system.hpp"
#include "tests/ps/save/saving.hpp"

using namespace weir;
using namespace weir::ps;
using namespace weir::test;

namespace {

/// A model of few elements, for sweeps over every call of a save.
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

TEST_CASE("the first checkpoint of every so many steps stays for good, beside the newest") {
  const TemporaryFolder folder;
  ServerConfig config = saving(folder.path(), 11, 1);
  config.checkpoint.keep = 2;
  config.checkpoint.keep_every = 4;
  const BucketPlan plan = plan_of({.servers = 2});
  SimulatedJob job(plan, config, 1);
  job.run();
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000004", "step-00000008",
                                                            "step-00000010", "step-00000011"});
  // Those due at 4, 8, … may come later, or at no step that is a multiple.
  const TemporaryFolder other;
  config.checkpoint.folder = other.path();
  config.checkpoint.every = 3;
  SimulatedJob rare(plan, config, 1);
  rare.run();
  CHECK(names_in(other.path()) ==
        std::vector<std::string>{"step-00000006", "step-00000009", "step-00000011"});
}

TEST_CASE(
    "one failing call, whichever: training goes on, and the last step is saved all the same") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_parameters());
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
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_parameters());
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

TEST_CASE("when a later job takes the run folder, at any call, the old one commits nothing more") {
  const QuietLog quiet;
  const BucketPlan plan = plan_of({.servers = 1}, 1 << 17, tiny_parameters());
  const auto committed = [](const fs::path& folder) {
    std::vector<std::string> names;
    for (const std::string& name : names_in(folder)) {
      if (name.starts_with("step-")) names.push_back(name);
    }
    return names;
  };
  // Returns whether the job learnt of it.
  const auto run = [&](FaultyFileSystem& files, int taken_at) {
    const TemporaryFolder run_folder;
    const fs::path checkpoints = run_folder.path() / "checkpoints";
    fs::create_directory(checkpoints);
    std::ofstream(run_folder.path() / "LOCK") << "host a, process 1\ngeneration 1\n";
    std::optional<std::vector<std::string>> then;
    files.fault = [&] {
      // The call before which it happens is still made.
      if (files.calls() == taken_at + 1) then = committed(checkpoints);
      if (files.calls() != taken_at) return;
      std::ofstream(run_folder.path() / "LOCK") << "host b, process 2\ngeneration 2\n";
      fs::create_directory(checkpoints / ".tmp-step-00000009");
    };
    ServerConfig config = saving(checkpoints, 3, 1);
    config.checkpoint.keep = 2;
    config.checkpoint.files = &files;
    config.checkpoint.claim = {run_folder.path(), "1"};
    SimulatedJob job(plan, config, 1);
    bool superseded = false;
    try {
      job.run();
    } catch (const SupersededError&) {
      superseded = true;
    }
    if (then) CHECK(committed(checkpoints) == *then);
    if (superseded) CHECK(fs::exists(checkpoints / ".tmp-step-00000009"));
    return superseded;
  };
  FaultyFileSystem counter(kNever, false);
  CHECK_FALSE(run(counter, kNever - 1));
  REQUIRE(counter.calls() > 30);
  for (int call = 1; call <= counter.calls(); ++call) {
    CAPTURE(call);
    FaultyFileSystem files(kNever, false);
    const bool superseded = run(files, call);
    // The last calls remove an older checkpoint: the job is over.
    if (call < counter.calls() - 4) CHECK(superseded);
  }
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
    const BucketPlan plan = plan_of({.servers = servers}, 1 << 17, tiny_parameters());
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
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_parameters());
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
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_parameters());
  ServerConfig config = saving(folder.path(), 5, 1);
  config.checkpoint.keep = 9;
  config.checkpoint.files = &files;
  config.checkpoint.wait_s = 60;
  SimulatedJob job(plan, config, 1);
  job.run();
  CHECK(names_in(folder.path()) ==
        std::vector<std::string>{"step-00000003", "step-00000004", "step-00000005"});
}

TEST_CASE("three failures in a row end the job with the reason and 74, if nobody is to wait") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const BucketPlan plan = plan_of({.servers = 2});
  ServerConfig config = saving(folder.path() / "missing" / "missing", 9, 1);
  SimulatedJob job(plan, config, 1);
  try {
    job.run();
    FAIL("the job goes on");
  } catch (const Error& error) {
    contains(error.what(), "the third checkpoint in a row");
    contains(error.what(), "cannot make the folder");
    CHECK(error.code() == ExitCode::storage);
  }
  CHECK(job.directives.size() >= 3);
}

TEST_CASE("a stop is answered while a save waits for room: the job ends when there is some") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  FaultyFileSystem files(kNever, false);
  std::atomic<int> failures = 1 << 30;
  fill_disk(files, failures);
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_parameters());
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
  const BucketPlan plan = plan_of({.servers = 2}, 1 << 17, tiny_parameters());
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

TEST_CASE("server 0 may begin a save before another server has applied that update") {
  const TemporaryFolder folder;
  const BucketPlan plan(tiny_parameters(), {0, 0, 0, 0}, Layout{.shards = 2, .servers = 2}, 65536);
  const ServerConfig config = saving(folder.path(), 1, 1);
  Server zero(plan, 0, config);
  Server one(plan, 1, config);
  for (Server* server : {&zero, &one}) {
    REQUIRE(!server->buckets().empty());
    for (index_t bucket : server->buckets()) {
      const auto count = std::ssize(plan.buckets()[bucket].contributors);
      for (index_t each = 0; each < count; ++each) {
        std::ranges::fill(server->contribution(bucket, each), 0.5f);
        server->on_contribution(bucket, each);
      }
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
  const BucketPlan plan(tiny_parameters(), {0, 0, 0, 0},
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
