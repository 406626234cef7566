#pragma once

#include <string>

#include "common/io/file.hpp"
#include "launch/supervise/host_choice.hpp"
#include "launch/supervise/mpirun_words.hpp"

namespace weir {

/// Leaves out a host on which two starts of a job have failed, if the job may have fewer replicas.
/// It stays out as long as the supervisor runs.
class LeftOutHosts {
 public:
  /// `replicas_min`: of --min-replicas; 0: no host is left out. Throws UsageError if a host could
  /// never be left out: mpirun's words name no single hostfile.
  LeftOutHosts(index_t replicas_min, bool has_slurm_job, const MpirunWords& words);

  /// After a start that failed; on several hosts it waits until all ranks have had time to end. If
  /// a host is left out, `words` are those for the next start, with the hostfile
  /// RUN/hostfile.remaining. Returns what to tell the user, if anything.
  std::string after(const JobEnd& end, const fs::path& run, MpirunWords& words);

 private:
  std::string leave_out(const std::vector<std::string>& names, const fs::path& run,
                        MpirunWords& words) const;

  index_t replicas_min_;
  bool has_slurm_job_;
  HostFailures failures_;
};

}  // namespace weir
