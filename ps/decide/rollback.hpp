#pragma once

#include <span>
#include <vector>

#include "common/base/options.hpp"
#include "common/net/messages.hpp"
#include "ps/decide/clip.hpp"
#include "ps/decide/standing.hpp"

namespace weir::ps {

struct RollbackConfig {
  index_t bad_steps = 0;  ///< so many in a row; 0: never
};

std::vector<Option> options(RollbackConfig& config);

/// When the servers go back to a state that they have kept in memory, as a team did by hand some 20
/// times in one training (Chowdhery et al., arXiv 2204.02311, section 5.1): weights, moments and
/// the clip become what they were; step and cursor go on, so the data between is passed over.
///
/// A step is bad if it is skipped, or its loss is not finite or 6 sigma above the moving average
/// (0.98) of the good ones. After `bad_steps` of them in a row the servers go back. What is kept
/// is the state after a good step with as many good ones before it (so that a spike that the loss
/// shows a step later is not in it), every 20 steps, and every checkpoint: so a job that goes on
/// from one does as it would have done. After 3 times in a row without a good step between them
/// the new loss is taken for what is usual now.
///
/// On server 0 alone, and a function of losses and skips: the same on any number of servers, and
/// in a replayed run.
class Rollback {
 public:
  explicit Rollback(const RollbackConfig& config) : bad_steps_max_(config.bad_steps) {}

  /// After the clip has decided of an update that this directive closes: may make it one that goes
  /// back or one to keep.
  void on_step(Directive& directive, Standing& standing, Clip& clip);
  /// Whether a state is bad for all that is known: no checkpoint of it, please.
  bool in_doubt() const { return bad_steps_max_ > 0 && good_in_a_row_ < bad_steps_max_; }
  /// This directive has a checkpoint.
  void on_checkpoint(Directive& directive, Standing& standing);
  /// Training begins with this, which is what servers have kept. Throws Error if the state is none.
  void begin(const Standing& standing);

 private:
  bool is_far(double loss) const;
  void follow(double loss);
  void keep(Directive& directive, const Standing& standing);
  void go_back(Directive& directive, Standing& standing, Clip& clip);
  std::vector<double> state() const;

  index_t bad_steps_max_;
  // Of the losses of good steps:
  index_t count_ = 0;
  double center_ = 0;
  double deviation_ = 0;  ///< mean absolute, from it
  index_t bad_in_a_row_ = 0;
  index_t good_in_a_row_ = 0;
  index_t backs_in_a_row_ = 0;
  // What is kept:
  index_t kept_step_ = 0;
  index_t kept_applied_ = 0;  ///< updates in it
  std::vector<double> kept_clip_;
};

}  // namespace weir::ps
