#pragma once

#include <string>

#include "common/base/error.hpp"
#include "common/io/file.hpp"

namespace weir {

/// Keeps a folder for this process alone, as long as it lives, by a lock on its file LOCK, which
/// names host and process and has a generation of its own for each owner. Throws Error naming the
/// holder if another process has it, and if nothing can be written there. A process that dies
/// leaves no lock behind.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder, FileSystem& files = posix_file_system());
  /// Drawn anew for each owner.
  const std::string& generation() const { return generation_; }

 private:
  File file_;
  std::string generation_;
};

/// What the LOCK of a folder is. `begun`: a kill or a power cut has caught it before it held its
/// first word; `foreign`: no FolderLock has written it, or it cannot be read.
enum class LockState { none, begun, written, foreign };
LockState lock_state(const fs::path& folder);

/// What a process that does not hold the lock itself, but writes for its holder, knows of it.
struct Claim {
  fs::path folder;
  std::string generation = {};  ///< the holder's; empty: the folder has no lock
};

/// The folder has another owner. Whoever learns this must end, write and remove nothing more, and
/// not be started again.
class SupersededError : public Error {
 public:
  explicit SupersededError(const std::string& message) : Error(message, ExitCode::storage) {}
};

/// Throws SupersededError if the folder's LOCK is of another generation: after a link between hosts
/// was cut, a new job may have begun while a part of the old one still runs. A LOCK that somebody
/// has removed says nothing. Throws FileError if it cannot be read.
void check_claim(const Claim& claim);

}  // namespace weir
