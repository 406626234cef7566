#pragma once

#include <span>
#include <vector>

#include "common/base/list.hpp"
#include "common/base/options.hpp"
#include "common/net/messages.hpp"
#include "ps/decide/clip.hpp"
#include "ps/decide/standing.hpp"

namespace weir::ps {

struct RollbackConfig {
  index_t bad_steps = 0;  ///< bad steps in a row that cause one; 0: never
};

std::vector<Option> options(RollbackConfig& config);

/// Decides when the servers return to a state that they have kept in memory, as a team did by hand
/// some 20 times in one training (Chowdhery et al., arXiv 2204.02311, section 5.1): weights,
/// moments and the clip become what they were; step and cursor go on, so the data between is passed
/// over.
///
/// A step is bad if it is skipped (but not for an overflow, which the loss scale answers), or its
/// loss is not finite or 6 sigma above the moving average (0.98) of the good ones. After
/// `bad_steps` of them in a row the servers go back. Every 20 steps the servers keep the state
/// after a good step that has `bad_steps` good ones before it, so that a spike which shows in the
/// loss one step later is not in it. They also keep the state of every checkpoint, so that a job
/// that resumes from one does what it would have done. After 3 rollbacks in a row without a good
/// step between them, the new loss counts as usual.
///
/// It runs on server 0 alone and depends only on losses and skips: so it is the same with any
/// number of servers, and in a replayed run.
class Rollback {
 public:
  explicit Rollback(const RollbackConfig& config) : bad_steps_max_(config.bad_steps) {}

  /// To be called with a directive that closes an update, after the clip has decided. It may turn
  /// the directive into one that rolls back, or into one whose state is kept.
  void on_step(Directive& directive, Standing& standing, Clip& clip);
  /// Whether the good steps in a row are still too few to trust the present state; no checkpoint is
  /// made of it then.
  bool in_doubt() const { return bad_steps_max_ > 0 && good_in_a_row_ < bad_steps_max_; }
  /// Tells that this directive has a checkpoint.
  void on_checkpoint(Directive& directive, Standing& standing);
  /// Sets where training begins, which is also what the servers have kept. Throws Error if the
  /// state is not valid.
  void begin(const Standing& standing);

 private:
  bool is_far(double loss) const;
  void follow(double loss);
  void keep(Directive& directive, const Standing& standing);
  void go_back(Directive& directive, Standing& standing, Clip& clip);
  List<double> state() const;

  index_t bad_steps_max_;
  // Moving averages over the losses of good steps:
  index_t count_ = 0;
  double center_ = 0;
  double deviation_ = 0;  ///< mean absolute deviation from it
  index_t bad_in_a_row_ = 0;
  index_t good_in_a_row_ = 0;
  index_t backs_in_a_row_ = 0;
  // The state that is kept:
  index_t kept_step_ = 0;
  index_t kept_applied_ = 0;  ///< updates that it includes
  List<double> kept_clip_;
};

}  // namespace weir::ps
