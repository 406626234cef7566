#include "tests/faults/power_loss.hpp"

#include <algorithm>
#include <numeric>
#include <random>

#include "common/io/best_checkpoint.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/run/run_folder.hpp"
#include "ps/local_steps.hpp"
#include "tests/faults/recorded_run.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test {
namespace {

constexpr index_t kStateFileMax = 1 << 20;

/// What a later job finds after a power cut, compared with what had been promised. Everything
/// throws Error.
class AfterPowerCut {
 public:
  AfterPowerCut(const RecordedRun& recorded, std::size_t count, const fs::path& root)
      : recorded_(recorded), count_(count), run_(root / kRunBelow) {}

  void look() const {
    if (newest_promise(kRunPromise)) {
      expect(fs::exists(run_), "the run folder is gone");
    }
    for (const char* const name : {kConfigPromise, kEnvironmentPromise, kBestPromise}) {
      const fs::path file = run_ / name;
      check(name, fs::exists(file) ? std::optional(read_whole(file, kStateFileMax)) : std::nullopt);
    }
    const RunFolder folder(run_);  // a later job can begin
    restore_replaced(posix_file_system(), folder.checkpoints());
    const auto newest = newest_complete(folder.checkpoints());
    if (!newest) return check(kCheckpointPromise, std::nullopt);
    const std::string manifest = read_whole(*newest / "MANIFEST", kStateFileMax);
    check(kCheckpointPromise, manifest);
    look_at_best(folder.checkpoints(), read_manifest(*newest).step);
    look_beside(*newest, recorded_.beside.at(manifest));
  }

 private:
  /// The index of the newest version that has been promised.
  std::optional<index_t> newest_promise(const char* what) const {
    for (index_t at = recorded_.recording.promises_at(count_) - 1; at >= 0; --at) {
      if (recorded_.recording.promises[static_cast<std::size_t>(at)].what == what) return at;
    }
    return std::nullopt;
  }

  void check(const char* what, const std::optional<std::string>& found) const {
    const auto promised = newest_promise(what);
    if (!found) return expect(!promised, what, " is missing");
    const std::vector<Promise>& all = recorded_.recording.promises;
    const auto from = all.begin() + promised.value_or(0);
    const bool holds = std::any_of(from, all.end(), [&](const Promise& each) {
      return each.what == what && each.version == *found && each.possible_from <= count_;
    });
    expect(holds, what, " is an older version or none:\n", found->substr(0, 200));
  }

  /// The best checkpoint is kept, however old it becomes.
  void look_at_best(const fs::path& checkpoints, index_t newest) const {
    const auto best = read_best(checkpoints);
    if (!best || best->step > newest) return;
    CheckpointReader(checkpoint_folder(checkpoints, best->step)).verify();
  }

  void look_beside(const fs::path& checkpoint, const BesideCheckpoint& expected) const {
    if (recorded_.kind.is_local) {
      const CheckpointReader own(ps::replica_checkpoints(checkpoint.parent_path(), 0) /
                                 checkpoint.filename());
      own.verify();
      expect(manifest_text(own.manifest()) == expected.replica_manifest,
             "the replica's own checkpoint is another one");
    }
    if (!recorded_.kind.decides) return;
    // A job goes on with the log.
    const fs::path file = RunFolder::decisions_of(run_);
    ps::DecisionLog log(file, deciding_job(), expected.update);
    log.append({ps::Decision::Kind::close, {0}}, expected.update + 1, 0);
    const auto all = read_decisions(file, deciding_job());
    expect(all.back().update == expected.update + 1, "the decision log does not go on");
    expect(words_of(all, expected.update) == expected.decisions,
           "decisions before the checkpoint are lost");
  }

  const RecordedRun& recorded_;
  std::size_t count_;
  fs::path run_;
};

/// A way to save that loses something, and must be seen to.
struct BrokenProtocol {
  std::string name;
  Forgets forgets = {};
  std::function<bool(const std::string&)> writes_in_place = {};  ///< these names
};

bool is_at(const std::string& name, const fs::path& below_run) {
  return name == (kRunBelow / below_run).string();
}

std::vector<BrokenProtocol> broken_protocols() {
  using Kind = DiskChange::Kind;
  const auto forgets = [](Kind kind, const std::string& part) {
    return [=](const DiskChange& change) {
      return change.kind == kind && change.name.find(part) != std::string::npos;
    };
  };
  const auto ends = [](const std::string& end) {
    return [=](const std::string& name) { return name.ends_with(end); };
  };
  return {
      {"no fsync of files", forgets(Kind::sync_file, "")},
      {"no fsync of folders", forgets(Kind::sync_folder, "")},
      {"no fsync of model.h5", forgets(Kind::sync_file, "model.h5")},
      {"no fsync of MANIFEST", forgets(Kind::sync_file, "MANIFEST")},
      {"no fsync of config.ini", forgets(Kind::sync_file, ".tmp-config.ini")},
      {"no fsync of BEST", forgets(Kind::sync_file, ".tmp-BEST")},
      {"no fsync of the decision log", forgets(Kind::sync_file, "/decisions.jsonl")},
      {"no fsync of the folder of a checkpoint", forgets(Kind::sync_folder, ".tmp-step-")},
      {"no fsync of the folder of all checkpoints",
       [](const DiskChange& change) {
         return change.kind == Kind::sync_folder && is_at(change.name, "checkpoints");
       }},
      {"no fsync of the run folder",
       [](const DiskChange& change) {
         return change.kind == Kind::sync_folder && change.name == kRunBelow;
       }},
      {"no fsync above a new run folder",
       [](const DiskChange& change) {
         return change.kind == Kind::sync_folder && change.name.size() < kRunBelow.string().size();
       }},
      {"no fsync of a replica's folder",
       [](const DiskChange& change) {
         return change.kind == Kind::sync_folder && is_at(change.name, "checkpoints/replica-0");
       }},
      {"checkpoints without a rename",
       {},
       [](const std::string& name) {
         return name.starts_with((kRunBelow / "checkpoints/step-").string()) &&
                name.find("MANIFEST") == std::string::npos;
       }},
      {"config.ini without a rename", {}, ends("/config.ini")},
      {"BEST without a rename", {}, ends("/BEST")},
  };
}

class PowerLoss final : public Part {
 public:
  index_t prepare(bool is_long) override {
    const RunKind kinds[] = {{.servers = 1},
                             {.servers = 1, .can_exchange = false},
                             {.servers = 2},
                             {.servers = 2, .can_exchange = false, .decides = true},
                             {.servers = 1, .decides = true},
                             {.is_local = true},
                             {.can_exchange = false, .is_local = true}};
    for (index_t round = 0; round < (is_long ? 8 : 1); ++round) {
      for (const RunKind& kind : kinds) {
        runs_.push_back(record_run(kind, 1 + static_cast<std::uint64_t>(round)));
      }
    }
    for (const BrokenProtocol& protocol : broken_protocols()) {
      for (std::size_t run = 0; run < std::size(kinds); ++run) {
        if (concerns(protocol, runs_[run])) controls_.push_back({protocol, run});
      }
    }
    return std::ssize(controls_) + (is_long ? 100'000 : 1000);
  }

  index_t controls() const override { return std::ssize(controls_); }

  void attempt(index_t trial, std::uint64_t seed) override {
    if (trial < std::ssize(controls_)) return attempt_broken(controls_[trial]);
    std::mt19937_64 random(seed);
    const RecordedRun& run = runs_[random() % runs_.size()];
    const std::vector<DiskChange>& changes = run.recording.changes;
    const std::size_t count = random() % (changes.size() + 1);
    const Survivors survivors = kSurvivors[random() % std::size(kSurvivors)];
    const std::uint64_t chance = random();
    try {
      cut(run, changes, count, survivors, chance, {});
    } catch (const std::exception& error) {
      throw Error(text(name_of(run.kind), ", power cut after change ", count, " of ",
                       changes.size(), count > 0 ? " (" + words_of(changes[count - 1]) + ")" : "",
                       ", of what was not brought to the disk survives ", name_of(survivors), ": ",
                       error.what()));
    }
  }

 private:
  struct Control {
    BrokenProtocol protocol;
    std::size_t run;
  };
  static constexpr Survivors kSurvivors[] = {Survivors::none,   Survivors::all, Survivors::prefixes,
                                             Survivors::moment, Survivors::any, Survivors::any};

  static void cut(const RecordedRun& run, const std::vector<DiskChange>& changes, std::size_t count,
                  Survivors survivors, std::uint64_t chance, const Forgets& forgets) {
    const TemporaryFolder after(memory_folder());
    cut_power(changes, count, survivors, chance, forgets, after.path());
    AfterPowerCut(run, count, after.path()).look();
  }

  /// Whether the run does what the protocol leaves out.
  static bool concerns(const BrokenProtocol& protocol, const RecordedRun& run) {
    return std::ranges::any_of(run.recording.changes, [&](const DiskChange& change) {
      return protocol.forgets ? protocol.forgets(change)
                              : !change.to.empty() && protocol.writes_in_place(change.to);
    });
  }

  /// Passes if one of many power cuts is seen to lose something.
  void attempt_broken(const Control& control) const {
    const RecordedRun& run = runs_[control.run];
    std::vector<DiskChange> changes = run.recording.changes;
    if (control.protocol.writes_in_place) {
      changes = without_rename(std::move(changes), control.protocol.writes_in_place);
    }
    for (std::uint64_t round = 0; round < 20; ++round) {
      std::vector<std::size_t> counts(changes.size() + 1);
      std::iota(counts.begin(), counts.end(), std::size_t{0});
      std::mt19937_64 random(round);
      std::ranges::shuffle(counts, random);
      const Survivors survivors = round % 4 == 0 ? Survivors::none : Survivors::any;
      for (const std::size_t count : counts) {
        try {
          cut(run, changes, count, survivors, random(), control.protocol.forgets);
        } catch (const std::exception&) {
          return;
        }
      }
    }
    throw Error(text(name_of(run.kind), ": nobody notices ", control.protocol.name));
  }

  std::vector<RecordedRun> runs_;
  std::vector<Control> controls_;
};

}  // namespace

std::unique_ptr<Part> power_loss() { return std::make_unique<PowerLoss>(); }

}  // namespace weir::test
