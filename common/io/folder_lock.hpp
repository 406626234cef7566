#pragma once

#include "common/base/error.hpp"
#include "common/base/index.hpp"
#include "common/io/file.hpp"

namespace weir {

/// Keeps a folder for this process alone, as long as it lives, by a lock on its file LOCK, which
/// names host and process and counts the owners. Throws Error naming the holder if another process
/// has it, and if nothing can be written there. A process that dies leaves no lock behind.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder);
  /// How many owners the folder has had, with this one.
  index_t generation() const { return generation_; }

 private:
  File file_;
  index_t generation_ = 0;
};

/// What a process that does not hold the lock itself, but writes for its holder, knows of it.
struct Claim {
  fs::path folder;
  index_t generation = 0;  ///< the holder's; 0: the folder has no lock
};

/// The folder has another owner. Whoever learns this must end and touch nothing more there.
class SupersededError : public Error {
 public:
  using Error::Error;
};

/// Throws SupersededError if the folder's LOCK is of another generation: after a link between hosts
/// was cut, a new job may have begun while a part of the old one still runs. A LOCK that somebody
/// has removed says nothing.
void check_claim(const Claim& claim);

}  // namespace weir
