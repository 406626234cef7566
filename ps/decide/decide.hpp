#pragma once

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <variant>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/job/training.hpp"
#include "common/net/messages.hpp"
#include "ps/decide/alarms.hpp"
#include "ps/decide/balance.hpp"
#include "ps/decide/clip.hpp"
#include "ps/decide/clocks.hpp"
#include "ps/decide/decision_log.hpp"
#include "ps/decide/intake.hpp"
#include "ps/decide/loss_scale.hpp"
#include "ps/decide/rate.hpp"
#include "ps/decide/rollback.hpp"
#include "ps/decide/standing.hpp"

namespace weir::ps {

enum class Norms {
  total,
  layers,  ///< the total and the norm of each layer
};

struct DecideConfig {
  ClipConfig clip;
  RateConfig rate;
  LossScaleConfig loss_scale = {};
  RollbackConfig rollback = {};
  Norms norms = Norms::total;
  ConsistencyConfig consistency = {};
  Training training = {};
  std::filesystem::path decisions = {};      ///< file of the decision log; empty: none
  std::filesystem::path replay = {};         ///< file of decisions to repeat; empty: none
  FileSystem* files = &posix_file_system();  ///< for the decision log
  bool checkpoints = false;
  index_t checkpoint_every = 0;  ///< steps; 0: at the end alone
};

/// Server 0's part: makes one directive an update out of all arrivals, reports and partials.
///
/// The order of events: the squares of all blocks are summed in the order of parameter, slice and
/// block, whichever server they come from, so the bits are the same for any number of servers and
/// any bucket size. The norm of the mean gradient is sqrt(total) / count, rounded to float. If it
/// or the loss is not finite, the step is skipped and the loss scale perhaps lowered; else the clip
/// decides. Gradients come in units of the loss, divided by the scale already, so the clip knows
/// nothing of it. Then follow rate, cursor, checkpoint and stop. If every update waits for all
/// replicas, updates are numbered by the step they make and nothing else is decided. Else Clocks
/// says whose contributions make an update, which a Close tells the other servers before they add
/// up, and whose come too late.
///
/// The update of a round (local) makes several steps, up to the next multiple of the round's
/// length: so rounds end where checkpoints are due, wherever training began.
///
/// An update from one replica's step (ssp, asp) has that replica's mean gradient and 1 / D of the
/// rate; its loss is the mean over the newest contributions of all replicas.
///
/// A checkpoint that is due at a skipped step waits for the next step that is not skipped: whatever
/// makes gradients infinite must not displace the checkpoints from before it. A checkpoint that is
/// due amid bad steps, when a rollback may follow, waits in the same way. Only a stop saves anyway.
class Decider {
 public:
  /// `plan` must outlive it. Throws Error if the log to replay does not belong to this job.
  Decider(const BucketPlan& plan, const DecideConfig& config);
  Decider(const Decider&) = delete;  // its clocks look at it
  Decider& operator=(const Decider&) = delete;

  /// Continues training from here.
  void restore(const Standing& standing);
  const Standing& standing() const { return standing_; }

  /// All three throw Error for a message of another step or update, and for one that comes twice.
  void on_arrival(const Arrival& arrival, double now);
  void on_report(const Report& report, double now);
  void on_partials(const Partials& partials);
  /// Makes the present step the last one, with a checkpoint.
  void request_stop();

  /// Where training begins: the state after the update before; `stop` if all steps are done.
  Directive start() const;
  /// What comes next, if anything is due at `now` (seconds of any clock): the contributors of an
  /// update, which every server then adds up; the directive of the present update once everything
  /// is there; or a directive that only drops. Throws Error after kSkipsInARowMax skips in a row,
  /// or if the update has no loss terms.
  std::optional<std::variant<Close, Directive>> decide(double now);

 private:
  index_t replicas() const { return plan_->layout().replicas; }
  /// The step that the update after `step` ends with: with rounds the next multiple of their
  /// length.
  index_t step_after(index_t step) const {
    const index_t round = config_.consistency.round_steps;
    return (step / round + 1) * round;
  }
  /// The steps of training that a clock counts as `count`.
  index_t steps_of_clock(index_t count) const {
    return std::max(origin_.step, count * config_.consistency.round_steps);
  }
  /// Steps a replica has done.
  index_t step_of(index_t replica) const {
    return clocks_ ? steps_of_clock(clocks_->step(replica)) : standing_.step;
  }
  /// The global index of the first new sample after `step` steps.
  index_t cursor_after(index_t step) const;
  void arrive_if_whole(index_t replica, double now);
  void advance_cursor(std::span<const index_t> contributors);
  Directive close(const List<index_t>& contributors, double now);
  List<double> layer_norms(double count) const;
  /// scale: that the gradients were made with.
  void clip_or_skip(Directive& directive, double loss_sum, double scale);
  void skip_not_finite(Directive& directive, double loss_sum, double scale);
  void let_go(Directive& directive, double now);
  void replay_from(index_t update);
  DecidingJob job() const;
  void balance(Directive& directive);

  const BucketPlan* plan_;
  DecideConfig config_;
  std::unique_ptr<Clip> clip_;
  LossScale loss_scale_;
  Standing standing_;
  Standing origin_;    ///< where this job began
  index_t last_step_;  ///< where the job ends
  bool checkpoint_due_ = false;
  Intake intake_;
  List<Report> counted_;  ///< the newest of each replica and context that made an update
  Balance balance_;
  DecisionLog log_;
  std::deque<LoggedDecision> replayed_shares_;  ///< to come, if decisions are replayed
  // Unless every update waits for all:
  std::optional<Clocks> clocks_;
  List<index_t> contributors_;  ///< those whose update is being added up
  Alarms alarms_;
  Rollback rollback_;
  Directive newest_;  ///< the newest that closed an update
};

}  // namespace weir::ps
