#pragma once

#include <optional>
#include <vector>

#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "ps/clip.hpp"
#include "ps/rate.hpp"

namespace weir::ps {

/// So many steps without a finite gradient in a row end the job.
inline constexpr index_t kSkipsInARowMax = 50;

/// Where training stands after a step: all that server 0 knows beside the parameters.
struct Progress {
  index_t step = 0;
  index_t cursor = 0;  ///< global index of the first sample of the next step
  index_t skipped_count = 0;
  index_t skips_in_a_row = 0;
  std::vector<double> clip_state;  ///< Clip::state
};

struct DecideConfig {
  ClipConfig clip;
  RateConfig rate;
  index_t steps = 0;  ///< of the whole training
  index_t batch = 0;  ///< samples a step
  bool checkpoints = false;
  index_t checkpoint_every = 0;  ///< steps; 0: at the end alone
};

/// Server 0's part: once an update, out of all reports and partials, one directive.
///
/// In this order: the sum of the squares of all blocks, in the order of parameter, slice and block
/// (whatever server they come from: the same bits for any number of servers and any bucket size);
/// the norm of the mean gradient, sqrt(total) / count, rounded to float; if it or the loss is not
/// finite, the step is skipped and the clip not asked; else the clip; then rate, cursor, checkpoint
/// and stop. Updates are numbered by the step they make.
///
/// A checkpoint that is due at a skipped step waits for the next one that is not: whatever makes
/// gradients infinite must not drive out the checkpoints from before it. Only a stop saves anyway.
class Decider {
 public:
  /// `plan` must outlive it.
  Decider(const BucketPlan& plan, const DecideConfig& config);

  /// Goes on after `progress`.
  void restore(const Progress& progress);
  const Progress& progress() const { return progress_; }

  /// Both throw Error for an update other than the present one, and if they come twice.
  void on_report(const Report& report);
  void on_partials(const Partials& partials);
  /// The next directive is the last, and has a checkpoint.
  void request_stop() { stop_requested_ = true; }

  /// Where training begins: the state after the update before; `stop` if all steps are done.
  Directive start() const;
  /// The directive of the present update once everything is there; the next update begins. Throws
  /// Error after kSkipsInARowMax skips in a row, or if the update has no loss terms.
  std::optional<Directive> decide();

 private:
  double total_squares() const;

  const BucketPlan* plan_;
  DecideConfig config_;
  Clip clip_;
  Progress progress_;
  bool stop_requested_ = false;
  bool checkpoint_due_ = false;
  /// Partials of all servers one after the other, at server_begin_[server].
  std::vector<double> squares_;
  std::vector<std::size_t> server_begin_;
  std::vector<std::size_t> canonical_;  ///< order of the sum: places in squares_
  std::vector<bool> partials_here_;     ///< by server
  std::vector<bool> reports_here_;      ///< by replica and context
  std::vector<Report> reports_;
};

}  // namespace weir::ps
