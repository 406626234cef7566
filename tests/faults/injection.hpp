#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::test {

/// A call that changes a file, as the log of an injection tells.
struct Call {
  std::string name;
  std::string path;  ///< below the folder
  bool struck = false;
};

/// What goes wrong in one process, in its calls that change files below a folder: open for making,
/// write, pwrite, ftruncate, posix_fallocate, fsync, close, rename, mkdir, rmdir, unlink.
struct Injection {
  std::filesystem::path below;
  index_t at = 0;         ///< the call, from 1 on; 0: none, the calls are counted alone
  std::string kind = {};  ///< kill, EIO, ENOSPC, EINTR, short, hang, slow (0.3 s more), or skip:
                          ///< says yes and does nothing
  bool stays = false;     ///< all later calls, too
  /// Instead of `at`: the first call that finds this file goes wrong, and takes it away.
  std::filesystem::path when = {};
  std::string only = {};  ///< calls of this name alone count
  /// If it has a name, `at` counts calls like this one alone. A path that ends with - is the begin
  /// of one.
  Call call = {};
  index_t rank = -1;  ///< the rank of the job under mpirun; -1: each process
  /// Each rank's calls are written to `log`.RANK (.0 without mpirun): number, `struck` or
  /// `made`, name, path below the folder.
  std::filesystem::path log = {};
  /// A wrong way to save, in all ranks, which must be noticed. no-rename: a checkpoint never gets
  /// its name; no-manifest: nor does its MANIFEST; in-place: it is written under its final name;
  /// old-first: older ones are removed when a save begins; no-removal: nothing is removed.
  std::string protocol = {};
};

std::vector<Call> read_calls(const std::filesystem::path& log, index_t rank = 0);

/// The command with the injection in its processes of weir; mpirun itself has none.
std::vector<std::string> with_injection(const std::vector<std::string>& command,
                                        const Injection& injection);

/// The command with a process of weir, that of this rank, which loses the first message that it
/// sends after the file `when` has appeared. The file is gone then.
std::vector<std::string> with_lost_message(const std::vector<std::string>& command, index_t rank,
                                           const std::filesystem::path& when);

}  // namespace weir::test
