#pragma once

#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/base/text.hpp"
#include "common/io/file.hpp"
#include "tests/faults/mutation.hpp"

namespace weir::test {

/// Something damaged was taken for whole. Not an Error, which is how it should have been refused.
class WrongResult : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

template <class... Words>
void right(bool holds, const Words&... words) {
  if (!holds) throw WrongResult(text(words...));
}

/// How a subject is read once.
struct DamagedRead {
  fs::path folder;  ///< holds the subject's files, some of them damaged
  bool is_forged;   ///< what was damaged has a right CRC
  Mutator& random;
};

/// Files that weir reads, and what reads them.
struct DamageSubject {
  std::string name;
  std::size_t share = 1;                          ///< the part of all trials
  std::map<std::string, std::string> files = {};  ///< contents by path below the folder
  std::map<std::string, std::string> other = {};  ///< the same files at another time
  bool has_lines = true;
  /// What an Error may name in place of the folder; if it holds an empty word, nothing.
  std::vector<std::string> also_names = {};
  /// Reads the files in one of several ways. Throws Error where weir refuses them, WrongResult
  /// where it takes what it must not.
  std::function<void(const DamagedRead&)> read = {};
};

/// Checkpoints and BEST, as jobs that resume, eval and inspect read them.
std::vector<DamageSubject> checkpoint_subjects();
/// What else a run folder holds, and the words of commands.
std::vector<DamageSubject> run_folder_subjects();

/// The files below a folder.
std::map<std::string, std::string> files_in(const fs::path& folder);

}  // namespace weir::test
