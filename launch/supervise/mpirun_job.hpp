#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/supervise/banner_filter.hpp"
#include "launch/supervise/requests.hpp"
#include "launch/supervise/signals.hpp"

namespace weir {

/// What a job must have done some time after its start: shown itself from outside.
struct StartLimit {
  double seconds = 0;                    ///< 0: there is no limit
  std::function<bool()> has_begun = {};  ///< asked at the end of that time
};

/// How mpirun ended.
struct JobEnd {
  int code = 0;                ///< its exit code, as a shell has it: 128 + n if signal n ended it
  bool any_began = false;      ///< it has started a rank
  bool is_ended = false;       ///< the supervisor ended it: on request, late, or stopped
  bool is_late = false;        ///< the supervisor ended it since it did not begin
  bool hang_is_named = false;  ///< a rank has said who stands still
  std::optional<RankFailure> failure = {};   ///< the first rank that failed
  std::vector<std::string> lost_hosts = {};  ///< that mpirun has lost or could not reach
};

/// Runs `command`, which begins with mpirun, from start to end in a process group of its own, so
/// that Ctrl-C does not reach it. stderr of mpirun and its ranks goes to stderr without banners.
///
/// mpirun kills its ranks within two seconds of a SIGTERM, and has no rank to pass SIGUSR1 on to
/// while it starts. So a request to stop becomes a SIGUSR1 when all ranks have begun: one that is
/// about to begin would die of it. A job that may not or does not stop is ended.
///
/// A job that has not begun at the end of its limit is ended: a host that does not answer keeps
/// mpirun waiting, and a rank that is stuck before it has the run folder has no watchdog yet.
///
/// An mpirun that waits for a host it cannot reach would not end after a rank has failed. It is
/// ended some seconds later, with the rank's exit code.
///
/// If mpirun is killed, or stopped (SIGSTOP) for seconds, the ranks on this host end with it. If
/// this process is killed, mpirun ends the job.
JobEnd run_mpirun(const std::vector<std::string>& command, const StartLimit& start,
                  Requests& requests, const Signals& signals);

}  // namespace weir
