#include "ps/decide/decide.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/job/share.hpp"

namespace weir::ps {
namespace {

void check_present(std::string_view what, index_t of, std::string_view unit, index_t number,
                   index_t present) {
  if (number == present) return;
  throw Error(text(what, " ", of, " for ", unit, " ", number, " came in ", unit, " ", present,
                   "; are all ranks the same build?"));
}

List<index_t> all_of(index_t count) {
  List<index_t> all(count);
  std::iota(all.begin(), all.end(), index_t{0});
  return all;
}

}  // namespace

Decider::Decider(const BucketPlan& plan, const DecideConfig& config)
    : plan_(&plan),
      config_(config),
      clip_(make_clip(config.clip, plan.specs().size())),
      loss_scale_(config.loss_scale, config.training.precision),
      last_step_(config.training.steps),
      intake_(plan, !waits_for_all(config.consistency)),
      counted_(intake_.reports().size()),
      balance_(config.training.micro_batches(), plan.layout().replicas),
      alarms_(config.training.precision),
      rollback_(config.rollback) {
  standing_.clip_state = clip_->state();
  if (waits_for_all(config.consistency)) {
    restore(standing_);
    return;
  }
  clocks_.emplace(config.consistency, replicas(), [this](index_t count) {
    const index_t step = steps_of_clock(count);
    const auto due = [&](index_t every) { return every > 0 && step % every == 0; };
    return step >= last_step_ || due(config_.checkpoint_every) || due(config_.training.eval_every);
  });
  restore(standing_);
}

void Decider::restore(const Standing& standing) {
  clip_->restore(standing.clip_state);
  loss_scale_.restore(standing.loss_scale_state);
  standing_ = origin_ = standing;
  standing_.loss_scale_state = loss_scale_.state();  // it may begin anew
  rollback_.begin(standing);
  log_ = DecisionLog(config_.decisions, job(), standing.update, *config_.files);
  if (clocks_) {
    clocks_->begin(standing.step / config_.consistency.round_steps, standing.update);
  }
  if (!config_.replay.empty()) replay_from(standing.update);
}

DecidingJob Decider::job() const {
  return {config_.consistency, replicas(), config_.training.micro_batches()};
}

void Decider::replay_from(index_t update) {
  std::deque<Decision> to_follow;
  replayed_shares_.clear();
  List<LoggedDecision> logged = read_decisions(config_.replay, job());
  const auto first = std::ranges::find_if(logged, [&](const LoggedDecision& each) {
    return each.update > update && each.decision.kind != Decision::Kind::share;
  });
  if (first != logged.end() && first->update != update + 1) {
    throw Error(text(config_.replay.string(), " begins with update ", first->update,
                     ", and this job with update ", update + 1,
                     "; replay it from the checkpoint that it goes on from"));
  }
  if (clocks_ && first == logged.end()) {
    log_warning(text(config_.replay.string(), " has no decisions of update ", update + 1,
                     " and later ones: nothing is replayed"));
  }
  for (LoggedDecision& each : logged) {
    if (each.decision.kind != Decision::Kind::share) {
      if (each.update > update) to_follow.push_back(std::move(each.decision));
    } else if (each.update <= update) {
      balance_.set(each.decision.replicas);  // the last one counts
    } else {
      replayed_shares_.push_back(std::move(each));
    }
  }
  if (clocks_) clocks_->follow(std::move(to_follow));
}

index_t Decider::cursor_after(index_t step) const {
  if (config_.consistency.mode == Consistency::bsp) return standing_.cursor;
  if (step == origin_.step) return origin_.cursor;
  const auto taken_up =
      std::min(origin_.again.size() * config_.training.micro_batch, config_.training.batch);
  return origin_.cursor + (step - origin_.step) * config_.training.batch - taken_up;
}

void Decider::on_report(const Report& report, double now) {
  if (intake_.knows(report)) {
    check_present("the report of replica", report.replica, "step", report.step,
                  step_after(step_of(report.replica)));
  }
  intake_.take(report);
  arrive_if_whole(report.replica, now);
}

void Decider::on_arrival(const Arrival& arrival, double now) {
  intake_.take(arrival);
  arrive_if_whole(arrival.replica, now);
}

void Decider::arrive_if_whole(index_t replica, double now) {
  if (clocks_ && intake_.whole(replica)) clocks_->arrived(replica, now);
}

void Decider::on_partials(const Partials& partials) {
  check_present("partial sums of server", partials.server, "update", partials.update,
                standing_.update + 1);
  intake_.take(partials);
}

void Decider::request_stop() {
  last_step_ = std::min(last_step_,
                        clocks_ ? steps_of_clock(clocks_->farthest()) : step_after(standing_.step));
}

Directive Decider::start() const {
  Directive directive;
  directive.update = standing_.update;
  directive.step = standing_.step;
  directive.cursor = standing_.cursor;
  directive.replicas.again = standing_.again;
  directive.replicas.shares = balance_.counts();
  directive.observed.skipped_count = standing_.skipped_count;
  directive.observed.dropped_count = standing_.dropped_count;
  directive.observed.threshold = clip_->threshold();
  directive.order.loss_scale = loss_scale_.scale();
  directive.order.stop = standing_.step >= last_step_;
  for (index_t replica = 0; replica < replicas(); ++replica) {
    directive.replicas.released.push_back({replica, standing_.step, standing_.cursor});
  }
  return directive;
}

std::optional<std::variant<Close, Directive>> Decider::decide(double now) {
  if (!clocks_) {
    if (!intake_.all_reports() || !intake_.all_partials()) return std::nullopt;
    return close(all_of(replicas()), now);
  }
  if (!contributors_.empty()) {
    if (!intake_.all_partials()) return std::nullopt;
    return close(std::exchange(contributors_, {}), now);
  }
  const std::optional<Decision> decision = clocks_->next(now);
  if (!decision) return std::nullopt;
  log_.append(*decision, standing_.update + (decision->kind == Decision::Kind::close ? 1 : 0),
              clocks_->staleness(decision->replicas.front()));
  if (decision->kind == Decision::Kind::close) {
    contributors_ = decision->replicas;
    return Close{standing_.update + 1, contributors_};
  }
  standing_.dropped_count += decision->replicas.size();
  Directive directive = newest_;  // the directive of the update that they missed
  directive.replicas.contributors.clear();
  directive.order.keep = directive.order.checkpoint = false;
  directive.observed.dropped_count = standing_.dropped_count;
  directive.replicas.dropped = decision->replicas;
  intake_.forget(decision->replicas);
  let_go(directive, now);
  return directive;
}

/// What the next step reads: first the samples of replicas without a contribution to this one, then
/// new ones.
void Decider::advance_cursor(std::span<const index_t> contributors) {
  const index_t micro_batches = config_.training.micro_batches();
  const List<index_t>& counts = balance_.counts();
  const auto first = [&](index_t index) {
    return first_sample(standing_.again, standing_.cursor, config_.training.micro_batch, index);
  };
  List<index_t> again;
  for (index_t replica = 0; replica < replicas(); ++replica) {
    if (std::ranges::binary_search(contributors, replica)) continue;
    const Interval share = share_of(counts, replica);
    for (index_t index = share.begin; index < share.end; ++index) again.push_back(first(index));
  }
  standing_.cursor = first(std::max(micro_batches, std::ssize(standing_.again)));
  standing_.again = std::move(again);
}

Directive Decider::close(const List<index_t>& contributors, double now) {
  // Which step this update makes, and where the samples of the next one begin.
  ++standing_.update;
  const bool together = updates_together(config_.consistency.mode);
  const index_t step = together ? step_after(standing_.step) : clocks_->step(contributors.front());
  standing_.step = together ? step : clocks_->slowest();
  if (config_.consistency.mode == Consistency::bsp) {
    advance_cursor(contributors);
  } else {
    standing_.cursor = cursor_after(standing_.step);
    if (standing_.step > origin_.step) standing_.again.clear();
  }
  Directive directive = start();
  directive.replicas.contributors = contributors;
  if (!together) directive.replicas.again.clear();  // those were of the first step
  directive.step = step;
  directive.rule.rate = rate_at(config_.rate, step, config_.training.steps) /
                        static_cast<double>(together ? 1 : replicas());
  // Summed in this order and not in that of arrival, so that every run has the same bits.
  // If replicas step one by one, the loss is the mean over the newest reports of all of them.
  double own_loss_sum = 0, loss_sum = 0, scale = 0;
  index_t loss_count = 0;
  for (index_t at = 0; at < counted_.size(); ++at) {
    const Report& report = intake_.reports()[at];
    if (std::ranges::binary_search(contributors, report.replica)) {
      counted_[at] = report;
      own_loss_sum += counted_[at].loss_sum;
      directive.observed.count += counted_[at].count;
      scale = std::max(scale, counted_[at].loss_scale);
    } else if (together) {
      continue;
    }
    loss_sum += counted_[at].loss_sum;
    loss_count += counted_[at].count;
  }
  if (directive.observed.count == 0) {
    throw Error(text("step ", directive.step, " has no loss terms: nothing to predict in ",
                     config_.training.batch, " samples"));
  }
  directive.observed.loss = loss_sum / static_cast<double>(loss_count);
  if (clocks_) {
    for (index_t replica : contributors) {
      directive.observed.staleness =
          std::max(directive.observed.staleness, clocks_->staleness(replica));
    }
  }
  clip_or_skip(directive, own_loss_sum, scale);
  rollback_.on_step(directive, standing_, *clip_);
  alarms_.on_step(directive);
  intake_.forget(contributors);
  intake_.forget_partials();
  let_go(directive, now);
  newest_ = directive;
  return directive;
}

List<double> Decider::layer_norms(double count) const {
  const LayerGroups groups = layer_groups(plan_->specs());
  List<double> norms(groups.names.size(), 0);
  const List<double> squares = intake_.squares_by_parameter();
  for (index_t each = 0; each < squares.size(); ++each) {
    norms[groups.of[each]] += squares[each];
  }
  for (double& norm : norms) norm = static_cast<float>(std::sqrt(norm) / count);
  return norms;
}

void Decider::clip_or_skip(Directive& directive, double loss_sum, double scale) {
  const auto count = static_cast<double>(directive.observed.count);
  directive.observed.norm = static_cast<float>(std::sqrt(intake_.total_squares()) / count);
  if (config_.norms == Norms::layers) directive.observed.layer_norms = layer_norms(count);
  if (!std::isfinite(directive.observed.norm) || !std::isfinite(loss_sum)) {
    return skip_not_finite(directive, loss_sum, scale);
  }
  loss_scale_.on_finite(scale);
  directive.order.loss_scale = loss_scale_.scale();
  List<double> parameters;
  if (config_.clip.policy == ClipPolicy::per_tensor) {
    parameters = intake_.squares_by_parameter();
    for (double& each : parameters) each = static_cast<float>(std::sqrt(each) / count);
  }
  ClipDecision clip = clip_->decide({directive.observed.norm, parameters});
  directive.observed.coefficient = clip.coefficient;
  directive.rule.factor = clip.coefficient / count;
  directive.rule.factors = std::move(clip.parameters);
  for (double& factor : directive.rule.factors) factor /= count;
  directive.observed.threshold = clip.threshold;
  directive.observed.clipped = clip.clipped;
  if (clip.skip) {
    directive.rule.skip = SkipReason::spike;
    directive.observed.skipped_count = ++standing_.skipped_count;
  }
  standing_.clip_state = clip_->state();
  standing_.loss_scale_state = loss_scale_.state();
  standing_.skips_in_a_row = 0;
}

void Decider::skip_not_finite(Directive& directive, double loss_sum, double scale) {
  // Forward knows no scale: if the loss is not finite, a lower one would not help.
  const bool overflow = std::isfinite(loss_sum) && loss_scale_.on_overflow(scale);
  directive.rule.skip = overflow ? SkipReason::overflow : SkipReason::not_finite;
  directive.order.loss_scale = loss_scale_.scale();
  directive.observed.skipped_count = ++standing_.skipped_count;
  standing_.loss_scale_state = loss_scale_.state();
  alarms_.on_not_finite(directive, std::isfinite(loss_sum) ? "gradient" : "loss",
                        ++standing_.skips_in_a_row);
}

/// Releases the replicas that go on with the weights of this directive. If all do so together, the
/// job may save and end here.
void Decider::let_go(Directive& directive, double now) {
  directive.replicas.released.clear();
  directive.observed.server_times = intake_.server_times();
  directive.order.stop = false;
  for (index_t replica : clocks_ ? clocks_->release(now) : all_of(replicas())) {
    directive.replicas.released.push_back(
        {replica, step_of(replica), cursor_after(step_of(replica))});
  }
  const bool all_meet = directive.replicas.released.size() == replicas() &&
                        std::ranges::all_of(directive.replicas.released, [&](const Release& each) {
                          return each.step == standing_.step;
                        });
  if (!all_meet) return;
  balance(directive);
  directive.order.stop = standing_.step >= last_step_;
  const index_t every = config_.checkpoint_every;
  checkpoint_due_ |= every > 0 && standing_.step % every == 0;
  const bool good = directive.rule.skip == SkipReason::none && !rollback_.in_doubt();
  if (directive.order.stop || (checkpoint_due_ && good)) {
    directive.order.checkpoint = config_.checkpoints;
    checkpoint_due_ = false;
    if (directive.order.checkpoint) rollback_.on_checkpoint(directive, standing_);
    if (directive.order.checkpoint) log_.sync();
  }
}

/// All replicas have done the same steps, so their shares may change from the next step on.
void Decider::balance(Directive& directive) {
  std::optional<List<index_t>> counts;
  if (!config_.replay.empty()) {
    if (!replayed_shares_.empty() && replayed_shares_.front().update < standing_.update) {
      throw Error(text("the decisions to replay share out a step anew after update ",
                       replayed_shares_.front().update,
                       ", where the replicas do not meet; are they of a run with the same "
                       "settings?"));
    }
    if (!replayed_shares_.empty() && replayed_shares_.front().update == standing_.update) {
      counts = std::move(replayed_shares_.front().decision.replicas);
      replayed_shares_.pop_front();
    }
  } else if (config_.training.balance == BalanceKind::measured) {
    List<double> seconds(replicas(), 0);
    for (const Report& report : counted_) {
      double& most = seconds[report.replica];
      most = std::max(most, report.seconds);
    }
    balance_.measured(seconds);
    counts = balance_.propose();
  }
  if (!counts) return;
  std::string words;
  for (index_t count : *counts) words += text(words.empty() ? "" : ", ", count);
  log_info(
      text("from step ", standing_.step + 1, " on the replicas take ", words, " micro-batches"));
  log_.append({Decision::Kind::share, *counts}, standing_.update, 0);
  balance_.set(std::move(*counts));
  directive.replicas.shares = balance_.counts();
}

}  // namespace weir::ps
