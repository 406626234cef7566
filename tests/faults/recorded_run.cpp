#include "tests/faults/recorded_run.hpp"

#include <cstddef>
#include <random>

#include "common/io/best_checkpoint.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/run/run_folder.hpp"
#include "tests/faults/part.hpp"
#include "tests/ps/local_life.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test {
namespace {

constexpr index_t kSaveEvery = 2;
constexpr index_t kFirstSteps = 6;
constexpr index_t kAllSteps = 8;
constexpr index_t kFileBytesMax = 1 << 20;

/// Two replicas, whose steps may leave one out if they decide.
ps::ServerConfig recorded_job(const RunKind& kind, index_t steps) {
  ps::ServerConfig config = server_config(steps);
  config.training.micro_batch = 2;
  config.checkpoint.every = kSaveEvery;
  config.checkpoint.keep = 2;
  config.checkpoint.wait_s = 0;
  if (kind.decides) config.consistency = {.backup = 1, .grace = 0};
  return config;
}

class RunRecorder {
 public:
  RunRecorder(const RunKind& kind, std::uint64_t seed)
      : seed_(seed), disk_(root_.path(), kind.can_exchange) {
    result_.kind = kind;
  }

  RecordedRun record() {
    live(kFirstSteps, 0);
    damage_newest();
    live(kAllSteps, 1);
    expect(checkpoints_in(checkpoints()).begin()->first == kAllSteps, "the recorded run failed");
    result_.recording = disk_.recording();
    return std::move(result_);
  }

 private:
  fs::path run() const { return root_.path() / kRunBelow; }
  fs::path checkpoints() const { return RunFolder::checkpoints_of(run()); }
  static std::string contents_of(const fs::path& path) { return read_whole(path, kFileBytesMax); }
  fs::path newest() const { return checkpoints_in(checkpoints()).begin()->second; }

  void promise_file(const char* name) { disk_.promise(name, contents_of(run() / name)); }

  void live(index_t steps, index_t life) {
    const RunFolder folder(run(), disk_);
    disk_.promise(kRunPromise, "");
    folder.write_config({{"steps", text(steps), Source::command_line}});
    promise_file(kConfigPromise);
    folder.write_environment(1 + life, "sgemm", "made up");
    promise_file(kEnvironmentPromise);
    if (result_.kind.is_local) {
      live_locally(steps, life);
    } else {
      live_with_servers(steps, life);
    }
  }

  void live_with_servers(index_t steps, index_t life) {
    const BucketPlan plan = plan_of({.replicas = 2, .shards = 2, .servers = result_.kind.servers},
                                    1 << 17, tiny_parameters());
    ps::ServerConfig config = recorded_job(result_.kind, steps);
    config.checkpoint.folder = checkpoints();
    config.checkpoint.files = &disk_;
    if (result_.kind.decides) config.decisions = RunFolder::decisions_of(run());
    SimulatedJob job(plan, config, static_cast<unsigned>(seed_) + static_cast<unsigned>(life));
    job.gradient = [life](index_t update, index_t salt, index_t parameter, index_t element) {
      return made_up(1000 * update + salt + 500 * life, parameter, element);
    };
    std::mt19937_64 random(seed_);
    job.held_up = [&](index_t replica) { return replica == 1 && random() % 10 > 0; };
    job.observe = [&](std::size_t, const ps::Output& output) {
      const auto* const end = std::get_if<SaveEnd>(&output);
      if (end == nullptr) return;
      expect(end->error.empty(), "a save of the recorded run failed: ", end->error);
      committed(checkpoint_folder(checkpoints(), end->step), life);
    };
    if (life > 0) job.load(*newest_complete(checkpoints()));
    job.run();
  }

  void live_locally(index_t steps, index_t life) {
    LocalLife local(checkpoints(), steps, {disk_}, {disk_});
    local.salt = 500 * life;
    index_t count = 0;
    local.after_step = [&](const ps::Server& server) {
      if (server.save_totals().count == count) return;
      count = server.save_totals().count;
      committed(newest(), life);
    };
    expect(local.run(), "the recorded run with local steps failed");
  }

  /// The job has been told that this checkpoint is committed.
  void committed(const fs::path& checkpoint, index_t life) {
    const Manifest manifest = read_manifest(checkpoint);
    const std::string words = contents_of(checkpoint / "MANIFEST");
    BesideCheckpoint& beside = result_.beside[words];
    beside.update = manifest.integers.at("update");
    if (result_.kind.decides) {
      const auto all = read_decisions(RunFolder::decisions_of(run()), deciding_job());
      beside.decisions = words_of(all, beside.update);
    }
    if (result_.kind.is_local) {
      beside.replica_manifest = contents_of(ps::replica_checkpoints(checkpoints(), 0) /
                                            checkpoint.filename() / "MANIFEST");
    }
    disk_.promise(kCheckpointPromise, words);
    if (manifest.step == (life == 0 ? 2 : 6)) {
      write_best(checkpoints(), {manifest.step, 3.0 - static_cast<double>(life)}, disk_);
      promise_file(kBestPromise);
    }
  }

  void damage_newest() {
    auto all = checkpoints_in(checkpoints());
    const fs::path before = std::next(all.begin())->second;
    const std::size_t begin = disk_.count();
    File file = disk_.open_for_writing(newest() / "model.h5");
    const std::string damage = "damaged!";
    disk_.write(file, file.size() - 8, std::as_bytes(std::span(damage)));
    disk_.sync(file);
    disk_.close(std::move(file));
    disk_.promise(kCheckpointPromise, contents_of(before / "MANIFEST"), begin);
  }

  std::uint64_t seed_;
  TemporaryFolder root_{memory_folder()};
  RecordedDisk disk_;
  RecordedRun result_;
};

}  // namespace

std::string name_of(const RunKind& kind) {
  return text(kind.is_local ? "local steps" : text(kind.servers, " servers"),
              kind.decides ? ", a decision log" : "", kind.can_exchange ? "" : ", no exchange");
}

ps::DecidingJob deciding_job() {
  const ps::ServerConfig config = recorded_job({.decides = true}, kAllSteps);
  return {config.consistency, 2, config.training.micro_batches()};
}

std::vector<std::string> words_of(const List<ps::LoggedDecision>& decisions, index_t update_max) {
  std::vector<std::string> words;
  for (const ps::LoggedDecision& each : decisions) {
    if (each.update > update_max) continue;
    std::string line = text(each.update, ' ', static_cast<int>(each.decision.kind));
    for (const index_t replica : each.decision.replicas) line += text(' ', replica);
    words.push_back(line);
  }
  return words;
}

RecordedRun record_run(const RunKind& kind, std::uint64_t seed) {
  return RunRecorder(kind, seed).record();
}

}  // namespace weir::test
