#pragma once

#include <string>

namespace weir {

/// What signals have asked of a job so far. SIGUSR1, SIGTERM, SIGINT and SIGHUP ask a training job
/// to stop after its next step and a checkpoint; a second SIGTERM or SIGINT ends it at once. Other
/// jobs have nothing to save, and the first signal ends them.
class Requests {
 public:
  /// `stop_wait_seconds`: a training job that was asked to stop is ended after this time.
  Requests(bool trains, double stop_wait_seconds)
      : trains_(trains), stop_wait_seconds_(stop_wait_seconds) {}

  /// Takes a signal that came at this time. Returns what to tell the user, if anything.
  std::string take(int signal, double now);

  bool any() const { return first_signal_ != 0; }
  int first_signal() const { return first_signal_; }
  /// The signal that ends the job at once; 0: none has.
  int ending_signal() const { return ending_signal_; }
  /// Whether a job that still runs has had its time to stop.
  bool overdue(double now) const;
  double stop_wait_seconds() const { return stop_wait_seconds_; }

 private:
  bool trains_;
  double stop_wait_seconds_;
  int first_signal_ = 0;
  double first_at_ = 0;
  int ending_signal_ = 0;
  int ending_count_ = 0;  ///< SIGTERM and SIGINT so far
};

/// `KILL` for SIGKILL; the number for a signal without a name.
std::string signal_name(int signal);

}  // namespace weir
