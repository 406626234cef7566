#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/faults/injection.hpp"
#include "tests/system/job.hpp"

namespace weir::test {

/// Ranks and options of a job.
struct SavingLayout {
  std::string name;
  int ranks = 0;  ///< 0: without mpirun
  std::vector<std::string> words;
};

/// One process; one and two servers; every rank a server; replicas that meet now and then, which
/// save, too.
std::vector<SavingLayout> saving_layouts();

/// What came of a job with a fault.
struct Faulted {
  Ended ended;
  index_t number = 0;                    ///< the call that was struck, counted from 1
  std::vector<std::vector<Call>> calls;  ///< those of each rank
};

/// A training job of six steps that saves after each second one and keeps two checkpoints. It is
/// made once undisturbed; what faults leave of others is compared with that.
class SavingJob {
 public:
  /// `corpus.txt` is in the folder, which outlives this.
  SavingJob(const TemporaryFolder& folder, SavingLayout layout);

  const std::string& name() const { return layout_.name; }
  int ranks() const { return std::max(1, layout_.ranks); }
  /// The calls of the undisturbed job that change files.
  const std::vector<Call>& calls(index_t rank) const { return calls_[rank]; }

  /// Runs it in this run folder.
  Ended run(const std::filesystem::path& run) const;
  Ended run(const std::filesystem::path& run, Injection injection) const;
  /// Runs it in a new run folder. If the rank makes too few calls this time, since its threads
  /// write beside each other, the last one is struck.
  Faulted run_with_fault(const std::filesystem::path& run, Injection injection) const;
  /// Where a fault struck, for people.
  std::string point(const Faulted& faulted, index_t rank) const;

  /// Throws Error unless each checkpoint in the run folder is whole, and none is older than what
  /// was committed according to the calls of the ranks.
  void expect_whole(const std::filesystem::path& run,
                    const std::vector<std::vector<Call>>& calls) const;
  /// Throws Error unless the run folder's last checkpoint and metrics have the undisturbed bits.
  void expect_same_bits(const std::filesystem::path& run) const;
  /// Throws Error unless the run folder holds the files that the undisturbed one holds, and no
  /// more. Older checkpoints may be there that the next commit would remove. `but_steps`: which
  /// steps have checkpoints does not matter.
  void expect_same_files(const std::filesystem::path& run, bool but_steps = false) const;

 private:
  std::vector<std::string> words(const std::filesystem::path& run) const;

  const TemporaryFolder& folder_;
  SavingLayout layout_;
  std::vector<std::vector<Call>> calls_;
  std::string digests_;
  std::vector<StepLine> steps_;
  std::filesystem::path undisturbed_;
};

/// Groups of calls that are alike, by name and by path without numbers; their indices.
std::vector<std::vector<index_t>> groups_of(const std::vector<Call>& calls);

/// `count` sets of indices of calls; from each, one is to be taken. A third of them is spread
/// evenly over all calls, the others over the groups.
std::vector<std::vector<index_t>> spread_over(const std::vector<Call>& calls, index_t count);

}  // namespace weir::test
