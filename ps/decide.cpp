#include "ps/decide.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "ps/store.hpp"

namespace weir::ps {
namespace {

void check_update(std::string_view what, index_t of, index_t update, index_t present) {
  if (update == present) return;
  throw Error(text(what, " ", of, " for update ", update, " came in update ", present,
                   "; are all ranks the same build?"));
}

bool all(const std::vector<bool>& flags) { return std::ranges::find(flags, false) == flags.end(); }

}  // namespace

Decider::Decider(const BucketPlan& plan, const DecideConfig& config)
    : plan_(&plan), config_(config), clip_(config.clip) {
  struct Place {
    index_t parameter, begin;
    std::size_t at;
  };
  std::vector<Place> places;
  for (index_t server = 0; server < plan.layout().servers; ++server) {
    server_begin_.push_back(places.size());
    for (index_t bucket : plan.buckets_of(server)) {
      for (const Block& block : blocks_of(plan.buckets()[static_cast<std::size_t>(bucket)])) {
        places.push_back({block.parameter, block.begin, places.size()});
      }
    }
  }
  server_begin_.push_back(places.size());
  // Slices are ranges of the parameter in ascending order, and blocks of their slice.
  std::ranges::sort(places, {},
                    [](const Place& place) { return std::tuple(place.parameter, place.begin); });
  for (const Place& place : places) canonical_.push_back(place.at);
  squares_.resize(places.size());
  partials_here_.assign(static_cast<std::size_t>(plan.layout().servers), false);
  const index_t reports = plan.layout().replicas * plan.layout().contexts;
  reports_here_.assign(static_cast<std::size_t>(reports), false);
  reports_.resize(reports_here_.size());
  progress_.clip_state = clip_.state();
}

void Decider::restore(const Progress& progress) {
  clip_.restore(progress.clip_state);
  progress_ = progress;
}

void Decider::on_report(const Report& report) {
  check_update("the report of replica", report.replica, report.update, progress_.step + 1);
  const Layout& layout = plan_->layout();
  const bool known = 0 <= report.replica && report.replica < layout.replicas &&
                     0 <= report.context && report.context < layout.contexts;
  const auto at = static_cast<std::size_t>(report.replica * layout.contexts + report.context);
  if (!known || reports_here_[at] || report.count < 0) {
    throw Error(text("the report of replica ", report.replica, ", context ", report.context,
                     " for update ", report.update, " with ", report.count,
                     " loss terms is a second one or impossible"));
  }
  reports_[at] = report;
  reports_here_[at] = true;
}

void Decider::on_partials(const Partials& partials) {
  check_update("partial sums of server", partials.server, partials.update, progress_.step + 1);
  const auto server = static_cast<std::size_t>(partials.server);
  const bool known = server < partials_here_.size() && !partials_here_[server];
  if (!known || server_begin_[server] + partials.squares.size() != server_begin_[server + 1]) {
    throw Error(text("the ", partials.squares.size(), " partial sums of server ", partials.server,
                     " for update ", partials.update, " come twice or do not fit the plan"));
  }
  std::ranges::copy(partials.squares,
                    squares_.begin() + static_cast<std::ptrdiff_t>(server_begin_[server]));
  partials_here_[server] = true;
}

double Decider::total_squares() const {
  double total = 0;
  for (std::size_t at : canonical_) total += squares_[at];
  return total;
}

Directive Decider::start() const {
  Directive directive;
  directive.update = directive.step = progress_.step;
  directive.cursor = progress_.cursor;
  directive.skipped_count = progress_.skipped_count;
  directive.threshold = clip_.threshold();
  directive.stop = progress_.step >= config_.steps;
  return directive;
}

std::optional<Directive> Decider::decide() {
  if (!all(reports_here_) || !all(partials_here_)) return std::nullopt;

  Directive directive = start();
  directive.update = directive.step = ++progress_.step;
  directive.cursor = progress_.cursor += config_.batch;
  directive.rate = rate_at(config_.rate, directive.step, config_.steps);
  double loss_sum = 0;
  for (const Report& report : reports_) {  // not the order of arrival: the same bits every run
    loss_sum += report.loss_sum;
    directive.count += report.count;
  }
  if (directive.count == 0) {
    throw Error(text("step ", directive.step, " has no loss terms: nothing to predict in ",
                     config_.batch, " samples"));
  }
  const auto count = static_cast<double>(directive.count);
  directive.loss = loss_sum / count;
  directive.norm = static_cast<float>(std::sqrt(total_squares()) / count);

  if (std::isfinite(directive.norm) && std::isfinite(directive.loss)) {
    const ClipDecision clip = clip_.decide(directive.norm);
    directive.factor = clip.coefficient / count;
    directive.threshold = clip.threshold;
    directive.clipped = clip.clipped;
    progress_.clip_state = clip_.state();
    progress_.skips_in_a_row = 0;
  } else {
    directive.skip = SkipReason::not_finite;
    directive.skipped_count = ++progress_.skipped_count;
    const auto in_a_row = static_cast<std::uint64_t>(++progress_.skips_in_a_row);
    if (std::has_single_bit(in_a_row)) {  // 1, 2, 4, 8 …: a line each would drown the others
      log_warning(text("step ", directive.step, " is skipped: the ",
                       std::isfinite(directive.loss) ? "gradient" : "loss", " is not finite",
                       in_a_row > 1 ? text(" (", in_a_row, " in a row)") : ""));
    }
    if (progress_.skips_in_a_row >= kSkipsInARowMax) {
      throw Error(text("the last ", kSkipsInARowMax, " steps up to step ", directive.step,
                       " had no finite gradient and were skipped; take a lower rate.peak or look "
                       "at the data"));
    }
  }
  directive.stop = stop_requested_ || directive.step >= config_.steps;
  const index_t every = config_.checkpoint_every;
  checkpoint_due_ |= every > 0 && directive.step % every == 0;
  if (directive.stop || (checkpoint_due_ && directive.skip == SkipReason::none)) {
    directive.checkpoint = config_.checkpoints;
    checkpoint_due_ = false;
  }

  reports_here_.assign(reports_here_.size(), false);
  partials_here_.assign(partials_here_.size(), false);
  return directive;
}

}  // namespace weir::ps
