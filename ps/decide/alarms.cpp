#include "ps/decide/alarms.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/base/log.hpp"

namespace weir::ps {
namespace {

constexpr std::size_t kWatched = 1000;
constexpr double kManySkips = 0.01;
constexpr double kCrushed = 1e-3;
constexpr index_t kCrushedSteps = 100;

}  // namespace

void Alarms::on_step(const Directive& directive) {
  skipped_.push_back(directive.rule.skip != SkipReason::none);
  if (skipped_.size() > kWatched) skipped_.pop_front();
  const auto skips = static_cast<double>(std::ranges::count(skipped_, true));
  if (skipped_.size() == kWatched && skips > kManySkips * kWatched) {
    log_warning(text(skips, " of the last ", kWatched, " steps up to step ", directive.step,
                     " were skipped; look at the data, or take a lower rate.peak"));
    skipped_.clear();  // the next warning needs 1,000 more steps
  }
  const bool crushed =
      directive.rule.skip == SkipReason::none && directive.observed.coefficient < kCrushed;
  crushed_in_a_row_ = crushed ? crushed_in_a_row_ + 1 : 0;
  if (crushed_in_a_row_ == kCrushedSteps) {
    log_warning(text("for ", kCrushedSteps, " steps up to step ", directive.step,
                     " the clip has left less than a thousandth of the gradient (threshold ",
                     directive.observed.threshold, ", norm ", directive.observed.norm,
                     "): the model hardly learns; take another clip.policy"));
  }
}

}  // namespace weir::ps
