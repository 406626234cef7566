#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ps/decide/decision_log.hpp"
#include "tests/faults/recorded_disk.hpp"

namespace weir::test {

/// How a recorded run saves.
struct RunKind {
  index_t servers = 1;
  bool can_exchange = true;
  bool decides = false;   ///< has a decision log: a step may leave a replica out
  bool is_local = false;  ///< --consistency local: a replica saves beside the server
};
std::string name_of(const RunKind& kind);

/// What belongs to a checkpoint.
struct BesideCheckpoint {
  index_t update = 0;
  std::vector<std::string> decisions = {};  ///< up to that update
  std::string replica_manifest = {};        ///< the replica's own checkpoint, same step
};

/// The promises of a run, by what they are about; versions are contents of files. `checkpoints`:
/// the MANIFEST of the newest one.
inline constexpr const char* kRunPromise = "the run folder";
inline constexpr const char* kConfigPromise = "config.ini";
inline constexpr const char* kEnvironmentPromise = "environment.txt";
inline constexpr const char* kBestPromise = "checkpoints/BEST";
inline constexpr const char* kCheckpointPromise = "checkpoints";

/// Two jobs in a new run folder, as a disk has recorded them. The first one saves three times.
/// Then its newest checkpoint is damaged, so the second one goes on from the one before, replaces
/// the damaged one and saves once more.
struct RecordedRun {
  RunKind kind;
  Recording recording;
  std::map<std::string, BesideCheckpoint> beside;  ///< the key is MANIFEST
};

/// The run's folder below the root of the record.
inline const fs::path kRunBelow = fs::path("runs") / "book";

/// The job whose decisions the run has.
ps::DecidingJob deciding_job();
/// The decisions of a log, one a line; only those up to an update.
std::vector<std::string> words_of(const List<ps::LoggedDecision>& decisions, index_t update_max);

/// `seed` decides the order of what happens at the same time.
RecordedRun record_run(const RunKind& kind, std::uint64_t seed);

}  // namespace weir::test
