#include "ps/decide/alarms.hpp"

#include <algorithm>
#include <bit>

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

void Alarms::on_not_finite(const Directive& directive, std::string_view what,
                           index_t in_a_row) const {
  // 1, 2, 4, 8 …: a line each would drown the others.
  if (std::has_single_bit(static_cast<std::uint64_t>(in_a_row))) {
    const std::string row = in_a_row > 1 ? text(" (", in_a_row, " in a row)") : "";
    if (directive.rule.skip == SkipReason::overflow) {
      log_info(text("step ", directive.step, " is skipped: its gradients overflow fp16", row,
                    "; the loss scale is ", directive.order.loss_scale, " now"));
    } else {
      log_warning(text("step ", directive.step, " is skipped: the ", what, " is not finite", row));
    }
  }
  if (in_a_row < kSkipsInARowMax) return;
  throw Error(
      text("the last ", kSkipsInARowMax, " steps up to step ", directive.step,
           " had no finite gradient and were skipped; take a lower rate.peak",
           precision_ == Precision::fp16 ? ", --precision bf16, whose range is that of fp32," : "",
           " or look at the data"));
}

}  // namespace weir::ps
