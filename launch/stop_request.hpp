#pragma once

#include <filesystem>

namespace weir {

/// From now on SIGUSR1 asks the job to stop instead of ending the process. If the process is the
/// whole job (`alone`), SIGTERM, SIGINT and SIGHUP do the same, and a second SIGTERM or SIGINT ends
/// it at once; under mpirun these go to mpirun (see launch/supervise/mpirun_job.hpp). A signal that
/// is ignored stays ignored. Call it first in main, so that no signal comes before it.
void catch_stop_signals(bool alone);

/// Lets SIGUSR1 through, which `weir run` starts the program with held back. Call it when
/// the program will not be started again in the same process (ensure_blas_core).
void release_stop_signals();

/// Whether a signal has asked this process to stop. Once true, it stays true.
bool stop_signalled();

/// Whether the job was asked to stop, by a signal or by a file named STOP in the run folder.
class StopRequest {
 public:
  explicit StopRequest(const std::filesystem::path& run);
  /// Looks for the file at most twice a second, so it is cheap. Once true, it stays true.
  bool arrived();

 private:
  std::filesystem::path file_;
  double looked_at_ = 0;
  bool arrived_ = false;
};

}  // namespace weir
