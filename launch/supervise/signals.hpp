#pragma once

#include <optional>

namespace weir {

/// From now on the signals that ask a job to stop (see Requests) wait until Signals takes them, so
/// that none is lost. One that is ignored, by nohup say, stays ignored. Call it first in main.
///
/// Handlers, not a mask: libraries have started threads already, which would take what is blocked
/// here alone. Programs that are started get the signals as if there were no handlers.
void catch_request_signals();

/// SIGPIPE and SIGXFSZ, which weir ignores, have their effect again in a process that was forked
/// and is about to become another program.
void restore_signals_for_program();

/// The signals that have come, as a descriptor that poll() knows. It wakes for the end or stop of a
/// child process, too.
class Signals {
 public:
  Signals();
  int descriptor() const;
  /// The next signal that asks the job to stop; none if there is none now.
  std::optional<int> next() const;
  /// Waits for one, for this long.
  std::optional<int> wait(double seconds) const;
};

}  // namespace weir
