#pragma once

#include <optional>
#include <string>

#include "common/io/file.hpp"
#include "common/job/layout.hpp"
#include "common/net/clocks.hpp"
#include "common/net/mpi.hpp"

namespace weir {

/// What a job has recorded, in the file of --trace: from begin() to write() every rank keeps its
/// newest spans (common/base/trace), and rank 0 writes those of all ranks, on one clock.
class JobTrace {
 public:
  /// Throws UsageError if the file could not be written; for rank 0, before anything is trained.
  static void check_file(const fs::path& file);

  /// world: the ranks of the job; none if this process is the whole job. host: those on this one's
  /// host. Begins to record: what moves buckets must be made later. Collective.
  JobTrace(const Comm& world, const Comm& host, const Layout& layout, fs::path file);
  JobTrace(const JobTrace&) = delete;
  JobTrace& operator=(const JobTrace&) = delete;
  ~JobTrace();  ///< what was not written is lost

  /// Ends recording and writes the file in one step. Rank 0 logs what the file holds, or why it
  /// could not be written; that is no reason to lose what was trained. Collective.
  void write();

 private:
  const Comm& world_;
  const Comm& host_;
  const Layout layout_;
  const fs::path file_;
  ClockReading first_;
  double zero_s_ = 0;  ///< when the trace began, by rank 0's clock
};

}  // namespace weir
