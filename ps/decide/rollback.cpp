#include "ps/decide/rollback.hpp"

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"
#include "common/base/log.hpp"

namespace weir::ps {
namespace {

constexpr index_t kKeepEvery = 20;  ///< steps
constexpr index_t kBacksMax = 3;
constexpr index_t kUnjudged = 25;  ///< steps whose loss is not judged
constexpr double kFar = 6;         ///< sigmas
constexpr double kKeepOf = 0.98;
constexpr double kLeastSigma =
    0.02;  ///< a share of the average: a smooth loss has spikes of its own

}  // namespace

std::vector<Option> options(RollbackConfig& config) {
  return {{"rollback",
           "steps",
           "after this many bad steps in a row (skipped, or with a loss far above the usual) the "
           "servers return to the last good state in their memory and skip the data between; 0: "
           "never",
           &config.bad_steps,
           {0, 1e6}}};
}

bool Rollback::is_far(double loss) const {
  const double sigma = std::max(kLeastSigma * std::abs(center_), 1.2533141373155003 * deviation_);
  return count_ >= kUnjudged && loss - center_ > kFar * sigma;
}

void Rollback::follow(double loss) {
  const auto count = static_cast<double>(count_++);
  const double keep = std::min(kKeepOf, count / (count + 1));
  deviation_ = keep * deviation_ + (1 - keep) * (count == 0 ? 0 : std::abs(loss - center_));
  center_ = keep * center_ + (1 - keep) * loss;
}

void Rollback::on_step(Directive& directive, Standing& standing, Clip& clip) {
  if (bad_steps_max_ == 0) return;
  const SkipReason skip = directive.rule.skip;
  const bool bad = (skip != SkipReason::none && skip != SkipReason::overflow) ||
                   !std::isfinite(directive.observed.loss) || is_far(directive.observed.loss);
  if (!bad) {
    follow(directive.observed.loss);
    bad_in_a_row_ = backs_in_a_row_ = 0;
    good_in_a_row_ = std::min(good_in_a_row_ + 1, bad_steps_max_);
    if (!in_doubt() && directive.step - kept_step_ >= kKeepEvery) keep(directive, standing);
  } else {
    good_in_a_row_ = 0;
    if (++bad_in_a_row_ == bad_steps_max_) go_back(directive, standing, clip);
  }
  standing.rollback_state = state();
}

void Rollback::keep(Directive& directive, const Standing& standing) {
  directive.order.keep = true;
  kept_step_ = directive.step;
  kept_applied_ = standing.update - standing.skipped_count;
  kept_clip_ = standing.clip_state;
}

void Rollback::go_back(Directive& directive, Standing& standing, Clip& clip) {
  bad_in_a_row_ = 0;
  if (++backs_in_a_row_ > kBacksMax) {
    log_warning(text("steps are as bad as before after ", kBacksMax,
                     " rollbacks in a row; from step ", directive.step,
                     " on a loss like this counts as usual"));
    backs_in_a_row_ = count_ = 0;
    center_ = deviation_ = 0;
    return;
  }
  log_warning(text("step ", directive.step, ": ", bad_steps_max_,
                   " bad steps in a row; the servers return to the weights after step ", kept_step_,
                   " and skip the data between"));
  clip.restore(kept_clip_);
  standing.clip_state = kept_clip_;
  standing.skipped_count = standing.update - kept_applied_;
  directive.observed.skipped_count = standing.skipped_count;
  directive.rule.skip = SkipReason::rollback;
  directive.observed.threshold = clip.threshold();
}

void Rollback::on_checkpoint(Directive& directive, Standing& standing) {
  if (bad_steps_max_ > 0) keep(directive, standing);
}

void Rollback::begin(const Standing& standing) {
  kept_step_ = standing.step;
  kept_applied_ = standing.update - standing.skipped_count;
  kept_clip_ = standing.clip_state;
  good_in_a_row_ = bad_steps_max_;
  const List<double>& state = standing.rollback_state;
  if (bad_steps_max_ == 0 || state.empty()) return;
  const bool good = state.size() == 6 &&
                    std::ranges::all_of(state, [](double value) { return std::isfinite(value); });
  if (!good) {
    throw Error(text("restoring the state of --rollback: ", state.size(),
                     " numbers that are no state of it; the checkpoint is damaged"));
  }
  count_ = static_cast<index_t>(state[0]);
  center_ = state[1];
  deviation_ = state[2];
  bad_in_a_row_ = static_cast<index_t>(state[3]);
  good_in_a_row_ = std::min(static_cast<index_t>(state[4]), bad_steps_max_);
  backs_in_a_row_ = static_cast<index_t>(state[5]);
}

List<double> Rollback::state() const {
  return {static_cast<double>(count_),
          center_,
          deviation_,
          static_cast<double>(bad_in_a_row_),
          static_cast<double>(good_in_a_row_),
          static_cast<double>(backs_in_a_row_)};
}

}  // namespace weir::ps
