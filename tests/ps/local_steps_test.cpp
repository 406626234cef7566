#include "ps/local_steps.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "common/io/checkpoint_format.hpp"
#include "ps/local_service.hpp"
#include "tests/common/io/faulty_file_system.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::test;

namespace {

constexpr index_t kSteps = 6;

struct Killed {};

/// The servers in this process. When one of the two file systems is dead, so is the job, but only
/// after the other side has gone as far as it can: the replica up to the end of its next round.
class MortalServers final : public ParameterService {
 public:
  MortalServers(ps::Server& server, const BucketPlan& plan, std::function<bool()> replica_is_dead,
                std::function<bool()> server_is_dead)
      : server_(server),
        service_(server, plan, [] { return false; }),
        replica_is_dead_(std::move(replica_is_dead)),
        server_is_dead_(std::move(server_is_dead)) {}

  ConstVector weights() const override { return service_.weights(); }
  Vector gradients() override { return service_.gradients(); }
  Directive start() override { return service_.start(); }
  void begin_update() override {
    end_save();
    if (replica_is_dead_() || server_is_dead_()) throw Killed();
    service_.begin_update();
  }
  void ready(index_t unit) override { service_.ready(unit); }
  bool progress() override { return service_.progress(); }
  void report(const Report& report) override { service_.report(report); }
  Directive directive() override { return service_.directive(); }
  void await(index_t unit) override { service_.await(unit); }
  void await_all() override { service_.await_all(); }
  void finish() override {
    end_save();
    if (server_is_dead_()) throw Killed();
    service_.finish();
  }
  double waited_seconds() const override { return 0; }
  index_t pushed_bytes() const override { return 0; }
  index_t pulled_bytes() const override { return 0; }

 private:
  void end_save() {
    while (server_.saving() && !server_is_dead_()) {
      if (!service_.progress()) std::this_thread::yield();
    }
  }

  ps::Server& server_;
  ps::LocalService service_;
  std::function<bool()> replica_is_dead_, server_is_dead_;
};

/// One life of a job of one replica, which meets the server every two steps and saves then. Each
/// side dies before that call of its own.
class Life {
 public:
  Life(const fs::path& checkpoints, int server_dies_at, int replica_dies_at)
      : server_files(server_dies_at, true), replica_files(replica_dies_at, true) {
    ps::ServerConfig both = server_config(kSteps);
    both.training.micro_batch = 2;
    both.consistency.mode = ps::Consistency::local;
    both.checkpoint.folder = checkpoints;
    both.checkpoint.every = 2;
    both.checkpoint.keep = 2;
    both.checkpoint.wait_s = 0;  // nobody repairs what is dead
    both.checkpoint.notes = {{"replicas", "1"}};
    ps::ServerConfig of_rounds = ps::server_config_of_rounds(both, {.steps = 2});
    of_rounds.checkpoint.files = &server_files;
    ps::ServerConfig of_replica = ps::server_config_of_replica(both, 0);
    of_replica.checkpoint.files = &replica_files;
    const fs::path newest = newest_complete(checkpoints).value_or(fs::path());
    ps::Server server(plan, 0, of_rounds);
    if (!newest.empty()) server.load(newest);
    ps::Server own(plan, 0, of_replica);
    MortalServers servers(
        server, plan, [&] { return replica_files.calls() >= replica_dies_at; },
        [&] { return server_files.calls() >= server_dies_at; });
    ps::LocalSteps steps(servers, own, plan, both, {.round_steps = 2}, newest);
    try {
      train(steps);
    } catch (const Killed&) {
      killed = true;
    } catch (const Error&) {  // the third save in a row that failed
      killed = true;
    }
  }

  FaultyFileSystem server_files, replica_files;
  bool killed = false;

 private:
  void train(ParameterService& service) {
    Directive directive = service.start();
    while (!directive.order.stop) {
      const index_t step = directive.step + 1;
      service.begin_update();
      for (const HeldSlice& slice : plan.holding({}).slices) {
        for (index_t i = 0; i < slice.range.count(); ++i) {
          as<float>(service.gradients())[slice.offset + i] =
              made_up(1000 * step, slice.parameter, slice.range.begin + i);
        }
      }
      for (index_t unit = 3; unit >= 0; --unit) service.ready(unit);
      service.report({.step = step, .replica = 0, .loss_sum = 100, .count = 700});
      directive = service.directive();
      service.await(0);
    }
    service.await_all();
    service.finish();
  }

  const BucketPlan plan =
      plan_of({.placement = Placement::local}, 1 << 17,
              {spec("embedding", {9, 7}, true, {0, 3}), spec("layers.1.up", {33, 7}, true, {1}),
               spec("layers.2.norm", {7}, false, {2})});
};

/// The digests of all tensors that server and replica have at the end.
std::vector<std::uint32_t> digests_of(const fs::path& checkpoints) {
  std::vector<std::uint32_t> digests;
  for (const fs::path& each : {checkpoints, ps::replica_checkpoints(checkpoints, 0)}) {
    const CheckpointReader reader(checkpoint_folder(each, kSteps));
    reader.verify();
    for (const RangeDigest& digest : reader.manifest().digests) digests.push_back(digest.crc);
  }
  return digests;
}

}  // namespace

TEST_CASE("local steps: server or replica killed in the midst of saves goes on to the same bits") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const auto checkpoints = [&](const std::string& name) {
    fs::create_directory(folder / name);
    return folder / name;
  };
  const fs::path whole = checkpoints("whole");
  const Life undisturbed(whole, kNever, kNever);
  REQUIRE_FALSE(undisturbed.killed);
  const std::vector<std::uint32_t> expected = digests_of(whole);
  CHECK(checkpoints_in(whole).size() == 2);

  for (const bool is_server : {true, false}) {
    CAPTURE(is_server);
    const int calls =
        is_server ? undisturbed.server_files.calls() : undisturbed.replica_files.calls();
    for (int fatal = 5; fatal <= calls; fatal += 9) {  // each takes two lives; 1, 1 tries all
      CAPTURE(fatal);
      const fs::path here = checkpoints(text(is_server ? "server-" : "replica-", fatal));
      const Life first(here, is_server ? fatal : kNever, is_server ? kNever : fatal);
      const Life second(here, kNever, kNever);
      REQUIRE_FALSE(second.killed);
      CHECK(digests_of(here) == expected);
      fs::remove_all(here);
    }
  }
}

TEST_CASE(
    "local steps: a replica whose own checkpoint is damaged begins it anew, and the job goes on") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const Life first(folder.path(), kNever, kNever);
  REQUIRE_FALSE(first.killed);
  const fs::path own = ps::replica_checkpoints(folder.path(), 0);
  const fs::path data = checkpoint_folder(own, kSteps) / "model.h5";
  {
    std::fstream file(data, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(data)) - 8);
    file.write("damaged!", 8);
  }
  CHECK_THROWS_AS(CheckpointReader(checkpoint_folder(own, kSteps)).verify(), Error);
  const Life second(folder.path(), kNever, kNever);
  CHECK_FALSE(second.killed);
}
