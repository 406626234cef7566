#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <string>

#include "common/base/index.hpp"

namespace weir::test {

/// The trials of a part that have been made, in a file: a run that was ended goes on after them.
class Journal {
 public:
  /// Goes on with the file if it is of the same commit and number of trials, and then `seed`
  /// is the file's. Begins it anew otherwise.
  Journal(std::filesystem::path path, const std::string& commit, index_t trials,
          std::uint64_t& seed);

  bool has(index_t trial) const { return results_.contains(trial); }
  /// `failure` is empty if the trial passed. Called by several threads.
  void add(index_t trial, const std::string& failure, double seconds);

  /// The trials with numbers from `begin` to below `end` that have been made, and that failed.
  index_t count(index_t begin, index_t end) const;
  index_t failure_count(index_t begin, index_t end) const;
  double seconds() const { return seconds_; }  ///< all trials together
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::mutex mutex_;
  std::map<index_t, bool> results_;  ///< whether it passed
  double seconds_ = 0;
};

/// The commit that the working tree is at, with a + if files have changed since; `unknown` without
/// git.
std::string commit_here();

}  // namespace weir::test
