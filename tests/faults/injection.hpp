#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::test {

/// What goes wrong in one process, in its calls that change files below a folder: open for making,
/// write, pwrite, ftruncate, posix_fallocate, fsync, close, rename, mkdir, rmdir, unlink.
struct Injection {
  std::filesystem::path below;
  index_t at = 0;  ///< the call, from 1 on; 0: none, the calls are counted alone
  std::string kind =
      {};  ///< kill, EIO, ENOSPC, EINTR, short, hang, or skip: says yes and does nothing
  bool stays = false;              ///< all later calls, too
  std::string only = {};           ///< calls of this name alone count
  index_t rank = -1;               ///< the rank of the job under mpirun; -1: each process
  std::filesystem::path log = {};  ///< gets a line a call: number, name, path below the folder
};

/// A call that the log of an injection tells of.
struct Call {
  std::string name;
  std::string path;
};
std::vector<Call> read_calls(const std::filesystem::path& log);

/// The command with the injection in its processes of weir; mpirun itself has none.
std::vector<std::string> with_injection(const std::vector<std::string>& command,
                                        const Injection& injection);

}  // namespace weir::test
