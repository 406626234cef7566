#include "ps/server.hpp"

#include <algorithm>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "ps/save/resume.hpp"

namespace weir::ps {

Server::Server(const BucketPlan& plan, index_t server, const ServerConfig& config,
               const BucketMemory& given)
    : plan_(&plan),
      server_(server),
      config_(completed(config)),
      store_(plan, server, config_.optimizer,
             config.resumes ? std::nullopt : std::optional(config.training.random_seed()), given),
      residuals_(plan, server),
      trust_(plan, server, config_.optimizer),
      kept_(plan, server, slot_names(config.optimizer.kind).size(), false),
      save_(plan, server, config_.checkpoint, config.optimizer.kind, config.clip.policy,
            residuals_) {
  if (server == 0) decider_.emplace(plan, decide_config(config));
  if (config_.rollback.bad_steps > 0) kept_.take_all(store_);
  for (index_t replica = 0; replica < plan.layout().replicas; ++replica) {
    contributors_.push_back(replica);
    last_.replicas.released.push_back({.replica = replica});
  }
  last_.order.stop = config.training.steps == 0;
  if (waits_for_all(config.consistency)) return;
  WEIR_ASSERT(!store_.sends_differences());  // some reader would miss one
  contributors_.clear();                     // until an update is closed
  traffic_.emplace(plan, server);
}

void Server::load(const std::filesystem::path& checkpoint) {
  WEIR_ASSERT(last_.update == 0 && !applying_ && complete_.empty());
  const Standing standing =
      load_checkpoint(checkpoint,
                      {.settings = config_.checkpoint.settings,
                       .obsolete = config_.checkpoint.obsolete,
                       .optimizer = config_.optimizer.kind,
                       .clip = config_.clip,
                       .in_rounds = config_.consistency.mode == Consistency::local,
                       .tells = server_ == 0},
                      *plan_, store_, residuals_);
  store_.begin_with(standing.update + 1, standing.moments_begin);
  for (index_t bucket : store_.buckets()) {
    for (index_t sum = 0; sum < store_.group_sum_count(bucket); ++sum) {
      if (!store_.keeps_residual(bucket, sum)) continue;
      std::ranges::copy(residuals_.of(bucket, sum), store_.residual(bucket, sum).begin());
    }
  }
  if (config_.rollback.bad_steps > 0) kept_.take_all(store_);
  partials_update_ = last_.update = standing.update;
  last_.step = standing.step;
  last_.cursor = standing.cursor;
  for (Release& each : last_.replicas.released) {
    each.step = standing.step;
    each.cursor = standing.cursor;
  }
  last_.observed.skipped_count = standing.skipped_count;
  last_.order.stop = standing.step >= config_.training.steps;
  if (!decider_) return;
  try {
    decider_->restore(standing);
  } catch (const Error& error) {
    throw Error(text("resuming ", checkpoint.string(), ": ", error.what()), error.code());
  }
}

void Server::begin_at(index_t step) {
  WEIR_ASSERT(decider_ && !applying_ && complete_.empty());
  Standing standing = decider_->standing();
  standing.step = last_.step = step;
  last_.order.stop = step >= config_.training.steps;
  decider_->restore(standing);
}

void Server::save() {
  WEIR_ASSERT(decider_ && !applying_);
  save_.save_now(decider_->standing(), last_.order.stop, store_);
}

Directive Server::start() const { return decider_ ? decider_->start() : last_; }

void Server::on_contribution(index_t bucket, index_t contributor) {
  if (began_at_ == 0) {  // an update's clock begins with its first contribution
    began_at_ = seconds_now();
    busy_seconds_ = 0;
  }
  const bool whole = store_.arrived(bucket, contributor);
  if (!traffic_) {
    if (whole) complete_.push_back(bucket);
    return;
  }
  const std::optional<index_t> replica = traffic_->arrived(bucket, contributor);
  if (!replica) return;
  const Arrival arrival = {.server = server_, .replica = *replica};
  if (decider_) {
    decider_->on_arrival(arrival, seconds_now());
  } else {
    outputs_.push_back(arrival);
  }
}

void Server::on_sent(index_t bucket) {
  if (traffic_) traffic_->sent(bucket);
}

template <class Content>
void Server::require_mine(const Content&) const {
  const bool for_0 = kReceiverOf<Content> == Receiver::server_0;
  if (for_0 == (server_ == 0)) return;
  throw Error(text("server ", server_, " received a ", Content::kName,
                   for_0 ? ", which is for server 0" : ", which server 0 sends to the others"));
}

void Server::on(const Arrival& arrival) {
  require_mine(arrival);
  decider_->on_arrival(arrival, seconds_now());
}

void Server::on(const Close& close) {
  require_mine(close);
  WEIR_ASSERT(!closed_);
  closed_ = close;
}

void Server::on_residual() { save_.on_residual(); }

void Server::on(const Report& report) {
  require_mine(report);
  decider_->on_report(report, seconds_now());
}

void Server::on(const Partials& partials) {
  require_mine(partials);
  decider_->on_partials(partials);
}

void Server::on(const Directive& directive) {
  require_mine(directive);
  const Directive& before = directives_.empty() ? last_ : directives_.back();
  const index_t update = before.update + (directive.replicas.contributors.empty() ? 0 : 1);
  if (directive.update != update || (update != before.update && partials_update_ != update)) {
    throw Error(text("server ", server_, " received the directive of update ", directive.update,
                     " while in update ", before.update + (applying_ ? 0 : 1),
                     "; are all ranks the same build?"));
  }
  directives_.push_back(directive);
  poll_directive();  // at once, if it can be: the next messages may be about it
}

void Server::on(const DirectionPartials& partials) {
  require_mine(partials);
  trust_.on_partials(partials, last_.update);
}

void Server::on(const TrustRatios& trust) {
  require_mine(trust);
  trust_.on_ratios(trust, last_.update);
}

void Server::on(const SaveBegin& begin) {
  require_mine(begin);
  const auto asks_for_it = [&](const Directive& each) {
    return each.order.checkpoint && each.step == begin.step;
  };
  save_.on_begin(begin, std::ranges::any_of(directives_, asks_for_it));
}

void Server::on(const SavePrepared& prepared) {
  require_mine(prepared);
  save_.on_prepared(prepared);
}

void Server::on(const SaveEnd& end) {
  require_mine(end);
  save_.on_end(end);
}

void Server::on(const Stop& stop) {
  require_mine(stop);
  decider_->request_stop();
  save_.on_stop_request();
}

void Server::begin_apply(const Directive& directive) {
  last_ = directive;
  if (traffic_) {
    traffic_->expect(last_.replicas.contributors);
    traffic_->expect(last_.replicas.dropped);
  }
  applying_ = true;
  applied_count_ = 0;
  trust_.begin(directive);
  save_.begin(directive, decider_ ? decider_->standing() : Standing());
}

bool Server::poll() {
  if (auto message = save_.poll()) {
    std::visit([&](auto&& each) { outputs_.push_back(std::move(each)); }, std::move(*message));
    return true;
  }
  // Weights that workers wait for come first, then the sums of the next update, then decisions;
  // nobody waits for copies.
  return poll_directive() || poll_trust() || poll_apply() || poll_close() || poll_sum() ||
         poll_partials() || poll_decide() || save_.copy_one(store_);
}

bool Server::poll_directive() {
  if (applying_ || directives_.empty()) return false;
  begin_apply(directives_.front());
  directives_.pop_front();
  return true;
}

bool Server::poll_trust() {
  // To make a direction steps the moments.
  if (trust_.is_on() && save_.copy_one(store_)) return true;
  if (!trust_.poll(store_, last_)) return false;
  if (auto message = trust_.take_message()) {
    std::visit([&](auto&& each) { outputs_.push_back(std::move(each)); }, std::move(*message));
  }
  return true;
}

bool Server::poll_apply() {
  if (!applying_ || trust_.is_on()) return false;
  // The copy of the previous checkpoint is still being written: training waits for the disk.
  if (!save_.may_step()) return false;
  const List<index_t>& buckets = store_.buckets();
  if (applied_count_ < buckets.size()) {
    const index_t bucket = buckets[buckets.size() - 1 - applied_count_];  // pull order
    if (traffic_) {
      // The last weights may still be leaving from where they are about to be stepped.
      if (!traffic_->has_left(bucket) && !last_.replicas.contributors.empty()) return false;
      traffic_->leaves(bucket, std::ssize(last_.replicas.released));
      for (index_t replica : last_.replicas.dropped) store_.discard(bucket, replica);
    }
    step(bucket);
    outputs_.push_back(BucketStepped{bucket});
    ++applied_count_;
  }
  if (applied_count_ == buckets.size()) {
    save_.applied();
    applying_ = false;
  }
  return true;
}

void Server::step(index_t bucket) {
  save_.before_step(bucket, store_);
  if (!last_.replicas.contributors.empty()) {
    store_.apply(bucket, last_, trust_.ratios());
    if (last_.rule.skip == SkipReason::rollback) kept_.put_back(bucket, store_);
  }
  if (last_.order.keep) kept_.take(bucket, store_);
  save_.stepped(bucket, store_);
}

bool Server::poll_close() {
  if (!closed_ || applying_) return false;
  contributors_ = closed_->replicas;
  closed_.reset();
  for (index_t bucket : store_.buckets()) complete_.push_back(bucket);
  return true;
}

bool Server::poll_sum() {
  if (complete_.empty()) return false;
  store_.sum(complete_.front(), contributors_);
  complete_.pop_front();
  return true;
}

bool Server::poll_partials() {
  // Once an update: all buckets are summed, and the last directive is applied.
  const index_t update = last_.update + 1;
  if (applying_ || last_.order.stop || partials_update_ == update || contributors_.empty() ||
      !store_.all_summed()) {
    return false;
  }
  partials_update_ = update;
  if (traffic_) contributors_.clear();
  Partials partials = {.update = update,
                       .server = server_,
                       .squares = store_.partials(),
                       .time = {began_at_ > 0 ? seconds_now() - began_at_ : 0, busy_seconds_}};
  if (decider_) {
    decider_->on_partials(partials);
  } else {
    outputs_.push_back(std::move(partials));
  }
  return true;
}

bool Server::poll_decide() {
  // The previous decision is carried out here before the next one is made.
  if (!decider_ || applying_ || last_.order.stop || closed_ || !complete_.empty()) return false;
  const auto decided = decider_->decide(seconds_now());
  if (!decided) return false;
  std::visit([&](const auto& each) { outputs_.push_back(each); }, *decided);
  if (const auto* close = std::get_if<Close>(&*decided)) {
    closed_ = *close;
  } else {
    begin_apply(std::get<Directive>(*decided));
  }
  return true;
}

std::optional<Output> Server::next_output() {
  if (outputs_.empty()) return std::nullopt;
  Output output = std::move(outputs_.front());
  outputs_.pop_front();
  return output;
}

bool Server::done() const {
  return last_.order.stop && !applying_ && save_.done() && outputs_.empty();
}

}  // namespace weir::ps
