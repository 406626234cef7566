#pragma once

#include <string>
#include <vector>

#include "tests/system/supervised.hpp"

namespace weir::test {

/// How a small job is spread over ranks.
struct SmallLayout {
  std::string name;
  int ranks = 1;
  std::vector<std::string> words;  ///< for `weir train`
  std::vector<int> servers = {};   ///< ranks that write checkpoints
};

/// Layouts that differ in who writes a checkpoint, and in who waits for whom.
std::vector<SmallLayout> small_layouts();

/// The step that a job has come to, as its metrics say; 0 before the first one.
index_t step_of(const std::filesystem::path& run);

/// Waits until the job has come to this step. Throws Error if it ends before.
void await_step(Process& job, const std::filesystem::path& run, index_t step);

/// Whether the words stand in a text.
bool has(const std::string& text, const std::string& words);

}  // namespace weir::test
