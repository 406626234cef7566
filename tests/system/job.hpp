#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test {

/// How a program ended.
struct Ended {
  int exit_code = 0;  ///< 128 + signal if one ended it
  bool timed_out = false;
  double seconds = 0;
  std::string output;  ///< stdout and stderr together
};

/// A program under way.
class Process {
 public:
  explicit Process(const std::vector<std::string>& command);
  ~Process();  ///< kills it if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  int id() const { return id_; }
  void signal(int number) const;
  bool running();
  std::string output() const;  ///< so far
  /// Waits; kills it and all it has started after `timeout_s`.
  Ended wait(double timeout_s);

 private:
  std::filesystem::path output_path() const { return folder_ / "output"; }
  int id_ = -1;
  bool ended_ = false;
  int status_ = 0;
  double started_at_ = 0;
  TemporaryFolder folder_;  ///< holds what the program prints
};

/// `weir ARGUMENTS`, alone (ranks = 0) or under `mpirun -n ranks`.
std::vector<std::string> weir_command(int ranks, const std::vector<std::string>& arguments);
Ended run_weir(int ranks, const std::vector<std::string>& arguments, double timeout_s = 60);

/// The words of a small model on sequences of 32, with all that a model may have.
std::vector<std::string> small_model();

/// The words of a training job of 24 steps of small_model(), on `folder`/corpus.txt into the run
/// folder `folder`/`run`. `more` takes the place of what has the same name.
std::vector<std::string> small_job(const TemporaryFolder& folder, const std::string& run,
                                   const std::vector<std::string>& more);

/// What metrics.jsonl says of a step; of several lines for a step the last.
struct StepLine {
  index_t step = 0;
  double loss = 0;
  double norm = 0;
  double threshold = 0;
  index_t cursor = 0;
  std::map<std::string, double> layer_norms = {};  ///< with --norms layers
  bool operator==(const StepLine&) const = default;
};
std::vector<StepLine> read_steps(const std::filesystem::path& run_folder);
/// The last of them that is written; 0 before the first one.
index_t step_of(const std::filesystem::path& run_folder);

/// A number in the last line of this kind in metrics.jsonl; NaN if there is no such line.
double read_figure(const std::filesystem::path& run_folder, const std::string& key,
                   const std::string& kind = "step");

/// All numbers of the newest checkpoint: weights and moments, in the order of its MANIFEST.
std::vector<float> read_newest_checkpoint(const std::filesystem::path& run_folder);

/// The digests of all tensors of the checkpoint of this step.
std::string digests_of(const std::filesystem::path& run_folder, index_t step = 24);

/// A text of `bytes` bytes with some structure: words drawn from a small dictionary by `seed`.
void write_corpus(const std::filesystem::path& path, index_t bytes, std::uint64_t seed);

}  // namespace weir::test
