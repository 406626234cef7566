#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/options.hpp"
#include "common/net/messages.hpp"

namespace weir::ps {

/// Which replicas an update waits for, and which weights a replica goes on with.
enum class Consistency {
  bsp,    ///< an update is a step of all replicas, but for `backup` of them
  ssp,    ///< an update is one replica's step; nobody is more than `staleness` steps ahead
  asp,    ///< an update is one replica's step; nobody waits
  local,  ///< an update is a round of all replicas: the steps that each has made by itself
};

struct ConsistencyConfig {
  Consistency mode = Consistency::bsp;
  index_t staleness = 1;    ///< steps, for ssp
  index_t backup = 0;       ///< replicas that a step of bsp may leave out
  double grace = 0.1;       ///< how long a step waits for these, as a share of the median step
  index_t round_steps = 1;  ///< for local; no option here: it follows from the job
};

std::vector<Option> options(ConsistencyConfig& config);
std::string name_of(Consistency mode);
/// Throws UsageError for settings that do not go together.
void check(const ConsistencyConfig& config, index_t replicas);
/// An update is a step, or a round, of all replicas, but for those that `backup` lets it leave out.
inline bool updates_together(Consistency mode) {
  return mode == Consistency::bsp || mode == Consistency::local;
}
/// Every update waits for every replica: nothing depends on what arrives when.
inline bool waits_for_all(const ConsistencyConfig& config) {
  return updates_together(config.mode) && config.backup == 0;
}

/// What depends on what arrived when, and nothing else does: repeating the decisions of a run
/// repeats the run.
struct Decision {
  enum class Kind {
    close,  ///< the contributions of these replicas make the next update
    drop,   ///< the contributions of these replicas came too late for theirs
    share,  ///< from the next step on the replicas take this many micro-batches
  };
  Kind kind = Kind::close;
  std::vector<index_t> replicas;  ///< ascending; of `share`, the count of each replica
  bool operator==(const Decision&) const = default;
};

/// A replica is one clock: the steps it has done (of local, the rounds). This is all of the
/// consistency modes; it knows neither servers nor messages, and no time but what it is told.
///
///   working --arrived()--> arrived --next()--> waiting --release()--> working on its next step
///
/// ssp, asp: next() closes an update with the one replica that arrived first. It is released when
/// the slowest clock is at most `staleness` behind its own (asp: at once). (Ho et al., NIPS 2013.)
/// bsp, local: next() closes step t when all replicas but `backup` have arrived with it and either
/// the grace is over or nobody else works on it. Who arrives with an older step is dropped: at
/// once, and joins the step that is open, if that was let go no longer ago than the grace, or too
/// few work on it to close it; else it would be late again, and is dropped after the next close, to
/// go on with all others. (Chen et al., arXiv 1604.00981.)
///
/// At steps that `meets` names all wait for all: checkpoints and validations see one state.
class Clocks {
 public:
  using Meets = std::function<bool(index_t step)>;
  /// check(config, replicas) has passed.
  Clocks(const ConsistencyConfig& config, index_t replicas, Meets meets);

  /// All replicas have done `step` steps in `update` updates and work on the next one.
  void begin(index_t step, index_t update);
  /// From here on decisions to close and drop are these, not those that arrivals would give, until
  /// they are used up.
  void follow(std::deque<Decision> decisions) { script_ = std::move(decisions); }

  /// Steps this replica has done, dropped ones included.
  index_t step(index_t replica) const { return clock(replica).step; }
  index_t slowest() const;
  /// The step that is in the works nowhere beyond: a job that is to end can end here.
  index_t farthest() const;

  /// All of this replica's contribution has come, at `now` (seconds of any clock).
  void arrived(index_t replica, double now);
  /// The next decision, if one is due. Throws Error if the decisions to follow cannot be.
  std::optional<Decision> next(double now);
  /// Those who may go on from `now`, ascending: they have done step(replica) steps.
  std::vector<index_t> release(double now);
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
  const Clock& clock(index_t replica) const { return clocks_[static_cast<std::size_t>(replica)]; }
  Clock& clock(index_t replica) { return clocks_[static_cast<std::size_t>(replica)]; }
  index_t replicas() const { return static_cast<index_t>(clocks_.size()); }
  template <class Holds>
  std::vector<index_t> those(const Holds& holds) const;
  std::optional<Decision> due(double now) const;
  std::optional<Decision> due_by_script() const;
  /// How long bsp waits for late replicas, in seconds; none before the first step has been timed.
  std::optional<double> grace() const;
  std::vector<index_t> to_drop() const;
  void carry_out(const Decision& decision, double now);

  ConsistencyConfig config_;
  Meets meets_;
  std::vector<Clock> clocks_;
  std::deque<index_t> arrivals_;  ///< who has arrived, first ones first
  index_t open_step_ = 1;         ///< bsp: the step whose contributions come
  index_t update_ = 0;            ///< closed so far
  std::deque<Decision> script_;
  double step_began_at_ = 0;
  index_t let_go_step_ = 0;  ///< bsp: the newest step that replicas were released into, and when
  double let_go_at_ = 0;
  double quorum_at_ = 0;               ///< bsp: when all but `backup` had arrived
  std::deque<double> step_durations_;  ///< the newest ones
};

}  // namespace weir::ps
