#pragma once

#include <functional>
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

/// Runs a job of each layout, in a run folder of its name, beside the others. Returns the digests
/// of their checkpoints of this step. `job_of`: the words of such a job, for weir. Throws Error if
/// one fails.
std::vector<std::string> undisturbed_digests(
    const TemporaryFolder& folder, const std::vector<SmallLayout>& layouts, index_t step,
    const std::function<std::vector<std::string>(const SmallLayout&)>& job_of);

/// Waits until the job has come to this step. Throws Error if it ends before.
void await_step(Process& job, const std::filesystem::path& run, index_t step);

/// Whether the words stand in a text.
bool has(const std::string& text, const std::string& words);

}  // namespace weir::test
