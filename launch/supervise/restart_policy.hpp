#pragma once

#include <string>

#include "common/base/index.hpp"

namespace weir {

/// How one start of a job ended.
struct Cycle {
  int code = 0;                   ///< the job's exit code, see ExitCode; 128 + n: signal n
  bool any_began = true;          ///< mpirun has started a rank
  index_t committed_before = -1;  ///< the newest committed step when it started; -1: none
  index_t committed_after = -1;   ///< and when it had ended
  /// It failed with ExitCode::error after it had made its last step, and committed it: what failed
  /// was only to say so, such as to a stdout that nobody reads.
  bool is_finished = false;
};

/// What to do after that.
struct RestartDecision {
  bool restart = false;
  double wait_seconds = 0;  ///< before the restart
  int code = 0;             ///< if there is none: the supervisor's exit code
  std::string reason = {};  ///< why there is none; empty if the exit code says it
};

/// When a job is started again after it has ended by itself. The first restart comes at once, the
/// next ones after 1, 2, 4 … 60 s. A start that commits a new step begins this anew. Three starts
/// in a row without a new step, and the job is given up with ExitCode::no_progress. A start in
/// which mpirun has started no rank does not count there: a host that it cannot reach may come
/// back. If it is the first of all, the job is given up at once.
class RestartPolicy {
 public:
  /// At most `restarts_max` restarts; with 0 every exit code counts as it is.
  explicit RestartPolicy(index_t restarts_max) : restarts_max_(restarts_max) {}

  RestartDecision after(const Cycle& cycle);
  index_t restart_count() const { return restart_count_; }

 private:
  index_t restarts_max_;
  index_t restart_count_ = 0;
  index_t since_commit_ = 0;     ///< restarts since a start committed something
  index_t fruitless_count_ = 0;  ///< starts in a row that committed nothing
  bool internal_before_ = false;
};

/// The pause before a restart that follows `earlier` others without a new committed step.
double restart_wait_seconds(index_t earlier);

}  // namespace weir
