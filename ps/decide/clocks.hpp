#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/list.hpp"
#include "common/base/options.hpp"
#include "common/net/messages.hpp"

namespace weir::ps {

/// Which replicas an update waits for, and which weights a replica goes on with.
enum class Consistency {
  bsp,    ///< an update is a step of all replicas except at most `backup`
  ssp,    ///< an update is one replica's step; none gets more than `staleness` steps ahead
  asp,    ///< an update is one replica's step; no replica waits
  local,  ///< an update is a round of all replicas: the steps that each has made by itself
};

struct ConsistencyConfig {
  Consistency mode = Consistency::bsp;
  index_t staleness = 1;    ///< steps, for ssp
  index_t backup = 0;       ///< replicas that a step of bsp may leave out
  double grace = 0.1;       ///< how long a step waits for these, as a share of the median step
  index_t round_steps = 1;  ///< steps of a round of local; follows from the job
};

std::vector<Option> options(ConsistencyConfig& config);
std::string name_of(Consistency mode);
/// Throws UsageError for settings that do not go together.
void check(const ConsistencyConfig& config, index_t replicas);
/// Whether an update is a step, or a round, of all replicas, except those that `backup` lets it
/// leave out.
inline bool updates_together(Consistency mode) {
  return mode == Consistency::bsp || mode == Consistency::local;
}
/// Whether every update waits for every replica: then nothing depends on the order of arrival.
inline bool waits_for_all(const ConsistencyConfig& config) {
  return updates_together(config.mode) && config.backup == 0;
}

/// A decision that depended on the order of arrival. Nothing else depends on it, so repeating the
/// decisions of a run repeats the run.
struct Decision {
  enum class Kind {
    close,  ///< the contributions of these replicas make the next update
    drop,   ///< the contributions of these replicas came too late for theirs
    share,  ///< from the next step on the replicas take this many micro-batches
  };
  Kind kind = Kind::close;
  List<index_t> replicas;  ///< ascending; of `share`, the count of each replica
  bool operator==(const Decision&) const = default;
};

/// One clock for each replica: the steps it has done (in local, the rounds). All consistency modes
/// are here. This class knows neither servers nor messages, and no time except what it is told.
///
///   working --arrived()--> arrived --next()--> waiting --release()--> working on its next step
///
/// ssp, asp: next() closes an update with the one replica that arrived first. It is released when
/// the slowest clock is at most `staleness` behind its own (asp: at once). (Ho et al., NIPS 2013.)
/// bsp, local: next() closes step t when all replicas but `backup` have arrived with it and either
/// the grace period is over or no other replica works on it. A replica that arrives with an older
/// step is dropped. It is dropped at once and joins the open step if that began no longer ago than
/// the grace period, or if too few replicas work on it to close it. Otherwise it would be late
/// again, so it is dropped after the next close and goes on with all others. (Chen et al., arXiv
/// 1604.00981.)
///
/// At the steps that `meets` names, every replica waits for all: checkpoints and validations see
/// one state.
class Clocks {
 public:
  using Meets = std::function<bool(index_t step)>;
  /// check(config, replicas) has passed.
  Clocks(const ConsistencyConfig& config, index_t replicas, Meets meets);

  /// Sets all clocks: every replica has done `step` steps in `update` updates and works on the next
  /// one.
  void begin(index_t step, index_t update);
  /// From here on next() returns these decisions to close and drop, and not those that arrivals
  /// would give, until they are used up.
  void follow(std::deque<Decision> decisions) { script_ = std::move(decisions); }

  /// Steps this replica has done, dropped ones included.
  index_t step(index_t replica) const { return clock(replica).step; }
  index_t slowest() const;
  /// The step beyond which no replica works: a job that must end can end here.
  index_t farthest() const;

  /// Says that all of this replica's contribution has come at `now` (seconds of any clock).
  void arrived(index_t replica, double now);
  /// The next decision, if one is due. Throws Error if a decision of the script cannot be carried
  /// out.
  std::optional<Decision> next(double now);
  /// The replicas that may go on from `now`, ascending; each has done step(replica) steps.
  List<index_t> release(double now);
  /// Updates between this replica's pull and the update that its contribution made or makes.
  index_t staleness(index_t replica) const { return clock(replica).staleness; }

 private:
  enum class State { working, arrived, waiting };
  struct Clock {
    State state = State::working;
    index_t step = 0;
    index_t pulled = 0;  ///< the newest update in the weights it works with
    index_t staleness = 0;
    double arrived_at = 0;
  };
  const Clock& clock(index_t replica) const { return clocks_[replica]; }
  Clock& clock(index_t replica) { return clocks_[replica]; }
  index_t replicas() const { return clocks_.size(); }
  template <class Holds>
  List<index_t> those(const Holds& holds) const;
  std::optional<Decision> due(double now) const;
  std::optional<Decision> due_by_script() const;
  /// How long bsp waits for late replicas, in seconds; none before the first step has been timed.
  std::optional<double> grace() const;
  List<index_t> to_drop() const;
  void carry_out(const Decision& decision, double now);

  ConsistencyConfig config_;
  Meets meets_;
  List<Clock> clocks_;
  std::deque<index_t> arrivals_;  ///< replicas that have arrived, the first one first
  index_t open_step_ = 1;         ///< bsp: the step whose contributions come
  index_t update_ = 0;            ///< updates closed so far
  std::deque<Decision> script_;
  double step_began_at_ = 0;
  index_t let_go_step_ = 0;  ///< bsp: the newest step that replicas were released into, and when
  double let_go_at_ = 0;
  double quorum_at_ = 0;               ///< bsp: when all but `backup` had arrived
  std::deque<double> step_durations_;  ///< the newest ones
};

}  // namespace weir::ps
