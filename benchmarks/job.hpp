#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::benchmark {

/// Where weir is.
std::string weir_path();

/// The text as one word of a shell command.
std::string quoted(const std::string& word);

/// A folder that goes with the object.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::filesystem::path path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Jane Austen's six novels (launch/scripts/corpus), fetched if they are not here: the path of the
/// text. Throws Error if there is none.
std::string austen_text();

/// Writes `bytes` letters without sense, for jobs whose loss nobody looks at.
std::string write_letters(const std::filesystem::path& path, index_t bytes);

/// The numbers that a job wrote into its metrics.jsonl.
class JobRecord {
 public:
  /// Throws Error if the file is missing or no JSON.
  explicit JobRecord(const std::filesystem::path& metrics_file);

  /// All values of a key in lines of this kind, in their order; those that are null left out.
  /// Throws Error if there is none.
  const std::vector<double>& column(const std::string& kind, const std::string& key) const;
  bool has(const std::string& kind, const std::string& key) const;

 private:
  std::map<std::string, std::vector<double>> columns_;  ///< the key is `kind.key`
};

/// Trains with `weir train <options>` on `ranks` MPI ranks (1: `--placement local`, without mpirun)
/// in a scratch folder, quietly. Throws Error with what the job said if it fails.
JobRecord train(index_t ranks, const std::vector<std::string>& options);
/// The same in the run folder `run`, which stays.
JobRecord train(index_t ranks, const std::vector<std::string>& options,
                const std::filesystem::path& run);

/// Calls work(0) to work(count - 1), begun in this order, up to `at_once` at a time. What one of
/// them throws is thrown again when those under way have ended; no other begins.
void side_by_side(std::size_t count, index_t at_once, const std::function<void(std::size_t)>& work);

}  // namespace weir::benchmark
