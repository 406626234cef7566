#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/options.hpp"
#include "common/io/folder_lock.hpp"

namespace weir {

/// Whether a run of weir has been in this folder: its LOCK, its metrics or a checkpoint says so.
bool is_run_folder(const fs::path& folder);

/// Where a run keeps what it leaves behind. One process has it at a time (rank 0 of a job):
///
///   config.ini        the effective configuration; `weir train --config` starts the same run again
///   environment.txt   version, machine, data
///   metrics.jsonl     see launch/run/metrics.hpp
///   checkpoints/      step-N/
///   decisions.jsonl   see ps/decide/decision_log.hpp; only if something was decided
///   live/             what each rank does, while a job runs (live.hpp)
///   hostfile.remaining  of weir run --min-replicas: the hosts that are not left out
///   hang/             the same for ranks that their watchdogs have ended; until the next job
///   STOP              touch it, and the job ends after a checkpoint
///   LOCK              names the process that has the folder
class RunFolder {
 public:
  /// Makes the folder if need be, takes it, makes live/ and removes what earlier jobs left there,
  /// in hang/, and a STOP that is older than this process. Throws UsageError if no run of weir has
  /// been there and a file of others has one of the names above; Error if nothing can be written
  /// there, or if another process has it.
  explicit RunFolder(const fs::path& path, FileSystem& files = posix_file_system());

  const fs::path& path() const { return path_; }
  const std::string& generation() const { return lock_.generation(); }
  fs::path metrics() const { return path_ / "metrics.jsonl"; }
  fs::path checkpoints() const { return checkpoints_of(path_); }

  void write_config(const std::vector<Setting>& settings) const;
  /// `data`: a line that says what is learnt (Dataset::describe).
  void write_environment(index_t ranks, std::string_view products, std::string_view data) const;

  /// Paths in a run folder, for ranks that do not hold it.
  static fs::path checkpoints_of(const fs::path& run) { return run / "checkpoints"; }
  static fs::path decisions_of(const fs::path& run) { return run / "decisions.jsonl"; }

 private:
  FileSystem& files_;
  fs::path path_;
  FolderLock lock_;
};

}  // namespace weir
