#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/machine.hpp"
#include "common/io/folder_lock.hpp"
#include "launch/run/live.hpp"
#include "launch/run/stillness.hpp"
#include "launch/run/watchdog_config.hpp"

namespace weir {

/// Which rank is watched, of which job.
struct WatchedRank {
  fs::path run;      ///< the run folder; without RUN/live nothing is watched
  Claim claim = {};  ///< rank 0's to the run folder; a rank whose job has lost it ends with 74
  index_t rank = 0;
  index_t ranks = 1;
  std::string role = {};
};

/// Watches the rank that makes it, from threads of its own that speak no MPI. Once a second it
/// writes RUN/live/rank-N.json. It takes the job for stuck when this rank has not moved for its
/// deadline (stillness.hpp), and no other rank is within its own: the records in RUN/live say so,
/// and a rank that has written none for the floor counts as stuck. Then it writes
/// RUN/hang/rank-N.json and one line to stderr, and ends the process with 86. Ranks that find such
/// a file do the same at once. The lowest of them also says which rank is the odd one out
/// (hang.hpp).
///
/// Time in which the process is stopped does not count, so a whole job may be stopped and go on. A
/// rank that cannot see or write RUN/live leaves the judgement to those that can.
class Watchdog {
 public:
  /// Made by the thread that trains.
  Watchdog(const WatchdogConfig& config, WatchedRank watched);
  ~Watchdog();  ///< ends the threads and removes the record
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  /// A look, for what is shown of the last ten seconds.
  struct Look {
    double now_s;
    index_t step;
    double computed_s;
    bool waits;
  };

  /// Waits; true as soon as `end` threads are to end.
  bool rest(double seconds, int end);
  void keep_time();
  void watch();
  void look();
  LiveRecord record() const;
  void end_if_superseded() const;
  void show();
  double show_s() const;
  bool others_have_ended() const;
  bool others_are_in_time() const;
  [[noreturn]] void end_rank();

  const WatchdogConfig config_;
  const WatchedRank watched_;
  const std::string host_;
  const ThreadClock computed_;
  std::atomic<double> awake_s_ = 0;  ///< time in which the process was not stopped
  /// When the watcher began to work with files, and how long it may; below 0: it does not.
  std::atomic<double> files_since_s_;
  std::atomic<double> files_for_s_;
  Stillness stillness_;
  std::deque<Look> looks_;
  bool is_shown_ = false;           ///< the newest record is in RUN/live
  double first_shown_unix_s_ = -1;  ///< the file system's time; below 0: not yet

  std::mutex mutex_;
  std::condition_variable ending_;
  int ended_count_ = 0;  ///< threads that are to end: the watcher first
  std::thread time_keeper_;
  std::thread watcher_;
};

}  // namespace weir
