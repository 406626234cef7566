#pragma once

#include <filesystem>
#include <memory>
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

/// Where a fault is to strike: before a rank's call, the n-th one like it, or of all if it has no
/// name.
struct Point {
  Call call;
  index_t nth = 1;
};

/// What came of a job with a fault.
struct Faulted {
  Ended ended;
  std::string where;                     ///< the layout, rank and call, for people
  bool struck = false;                   ///< the rank has made the call
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
  /// The calls of the undisturbed job that change files, without those of the records of a running
  /// job, which depend on time.
  const std::vector<Point>& points(index_t rank) const { return points_[rank]; }

  /// Runs it in this run folder.
  Ended run(const std::filesystem::path& run) const;
  Ended run(const std::filesystem::path& run, Injection injection) const;
  /// Runs it in a new run folder.
  Faulted run_with_fault(const std::filesystem::path& run, const Point& point,
                         Injection injection) const;

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
  std::vector<std::vector<Point>> points_;
  std::string digests_;
  std::vector<StepLine> steps_;
  std::filesystem::path undisturbed_;
};

using SavingJobs = std::vector<std::unique_ptr<SavingJob>>;
/// A job of each layout. Writes corpus.txt into the folder.
SavingJobs saving_jobs(const TemporaryFolder& folder);

/// Points of a rank, by their indices.
struct RankPoints {
  const SavingJob* job;
  index_t rank;
  std::vector<index_t> points;
};
/// Each point of each rank of each job by itself.
std::vector<RankPoints> each_point(const SavingJobs& jobs);

/// `count` sets of indices of points; from each, one is to be taken. A third of them is spread
/// evenly over all points, the others over groups that are alike but for numbers.
std::vector<std::vector<index_t>> spread_over(const std::vector<Point>& points, index_t count);

}  // namespace weir::test
