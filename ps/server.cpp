#include "ps/server.hpp"

#include <algorithm>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "ps/save/resume.hpp"

namespace weir::ps {
namespace {

DecideConfig decide_config(const ServerConfig& config) {
  return {.clip = config.clip,
          .rate = config.rate,
          .rollback = config.rollback,
          .norms = config.norms,
          .consistency = config.consistency,
          .steps = config.steps,
          .batch = config.batch,
          .micro_batch = config.micro_batch,
          .balance = config.balance,
          .meet_every = config.meet_every,
          .decisions = config.decisions,
          .replay = config.replay,
          .checkpoints = !config.checkpoint.folder.empty(),
          .checkpoint_every = config.checkpoint.every};
}

ServerConfig completed(ServerConfig config) {
  config.optimizer.clips_updates = config.clip.policy == ClipPolicy::update_rms;
  if (config.consistency.mode == Consistency::local) {
    config.checkpoint.round_steps = config.consistency.round_steps;
  }
  return config;
}

}  // namespace

std::vector<Option> options(ServerConfig& config) {
  std::vector<Option> rows = options(config.optimizer);
  for (const auto& table : {options(config.rate), options(config.clip), options(config.rollback),
                            options(config.checkpoint), options(config.consistency)}) {
    rows.insert(rows.end(), table.begin(), table.end());
  }
  rows.push_back({"norms", "",
                  "norms of the gradient in metrics.jsonl: of all; or of each layer, too",
                  choice(config.norms, {{"total", Norms::total}, {"layers", Norms::layers}})});
  return rows;
}

Server::Server(const BucketPlan& plan, index_t server, const ServerConfig& config,
               const BucketMemory& given)
    : plan_(&plan),
      server_(server),
      config_(completed(config)),
      store_(plan, server, config_.optimizer, config.seed, given),
      residuals_(plan, server),
      trust_(plan, server, config_.optimizer),
      kept_(plan, server, slot_names(config.optimizer.kind).size()),
      snapshot_(plan, server, config_.checkpoint, config.optimizer.kind, config.clip.policy,
                residuals_) {
  if (server == 0) decider_.emplace(plan, decide_config(config));
  if (config_.rollback.bad_steps > 0) kept_.take_all(store_);
  for (index_t replica = 0; replica < plan.layout().replicas; ++replica) {
    contributors_.push_back(replica);
    last_.released.push_back({.replica = replica});
  }
  last_.stop = config.steps == 0;
  if (waits_for_all(config.consistency)) return;
  missing_.assign(contributors_.size(), contributions_of_a_replica());
  contributors_.clear();  // until an update is closed
  unsent_.resize(plan.buckets().size());
  for (index_t bucket : store_.buckets()) {  // the weights that training begins with
    const auto readers = plan.buckets()[static_cast<std::size_t>(bucket)].readers.size();
    unsent_[static_cast<std::size_t>(bucket)] =
        plan.layout().replicas * static_cast<index_t>(readers);
  }
}

index_t Server::contributions_of_a_replica() const {
  index_t count = 0;
  for (index_t bucket : store_.buckets()) {
    count += std::ssize(plan_->buckets()[static_cast<std::size_t>(bucket)].contributors);
  }
  return count;
}

void Server::load(const std::filesystem::path& checkpoint) {
  WEIR_ASSERT(last_.update == 0 && !applying_ && complete_.empty());
  const Progress progress =
      load_checkpoint(checkpoint,
                      {.settings = config_.checkpoint.settings,
                       .obsolete = config_.checkpoint.obsolete,
                       .optimizer = config_.optimizer.kind,
                       .clip = config_.clip,
                       .in_rounds = config_.consistency.mode == Consistency::local,
                       .tells = server_ == 0},
                      *plan_, store_, residuals_);
  store_.begin_with(progress.update + 1, progress.moments_begin);
  if (config_.rollback.bad_steps > 0) kept_.take_all(store_);
  partials_update_ = last_.update = progress.update;
  last_.step = progress.step;
  last_.cursor = progress.cursor;
  for (Release& each : last_.released) {
    each.step = progress.step;
    each.cursor = progress.cursor;
  }
  last_.skipped_count = progress.skipped_count;
  last_.stop = progress.step >= config_.steps;
  if (decider_) decider_->restore(progress);
}

void Server::begin_at(index_t step) {
  WEIR_ASSERT(decider_ && !applying_ && complete_.empty());
  Progress progress = decider_->progress();
  progress.step = last_.step = step;
  last_.stop = step >= config_.steps;
  decider_->restore(progress);
}

void Server::save() {
  WEIR_ASSERT(decider_ && !applying_ && !saving() && !residuals_.kept());
  snapshot_.start(last_.step, last_.stop, decider_->progress());
  for (index_t bucket : store_.buckets()) snapshot_.copy(bucket, store_);
  snapshot_.copied();
}

Directive Server::start() const { return decider_ ? decider_->start() : last_; }

void Server::on_contribution(index_t bucket, index_t contributor) {
  if (began_at_ == 0) {
    began_at_ = seconds_now();
    busy_seconds_ = 0;
  }
  const bool whole = store_.arrived(bucket, contributor);
  if (!missing_.empty()) {
    count_arrival(bucket, contributor);
  } else if (whole) {
    complete_.push_back(bucket);
  }
}

void Server::count_arrival(index_t bucket, index_t contributor) {
  const index_t a_replica =
      std::ssize(plan_->buckets()[static_cast<std::size_t>(bucket)].contributors);
  const index_t replica = contributor / a_replica;
  if (--missing_[static_cast<std::size_t>(replica)] > 0) return;
  const Arrival arrival = {.server = server_, .replica = replica};
  if (decider_) {
    decider_->on_arrival(arrival, seconds_now());
  } else {
    outputs_.push_back(arrival);
  }
}

void Server::on_sent(index_t bucket) {
  if (unsent_.empty()) return;
  --unsent_[static_cast<std::size_t>(bucket)];
  WEIR_ASSERT(unsent_[static_cast<std::size_t>(bucket)] >= 0);
}

void Server::on_arrival(const Arrival& arrival) {
  require_server_0(true, "an arrival");
  decider_->on_arrival(arrival, seconds_now());
}

void Server::on_close(const Close& close) {
  require_server_0(false, "the contributors of an update");
  WEIR_ASSERT(!closed_);
  closed_ = close;
}

void Server::on_residual() {
  WEIR_ASSERT(residuals_missing_ > 0);
  if (--residuals_missing_ == 0) end_copying();
}

void Server::end_copying() {
  if (copied_ && residuals_missing_ == 0) snapshot_.copied();
}

void Server::require_server_0(bool is_0, const char* what) const {
  if (is_0 == (server_ == 0)) return;
  throw Error(text("server ", server_, " received ", what,
                   is_0 ? ", which is for server 0" : ", which server 0 sends to the others"));
}

void Server::on_report(const Report& report) {
  require_server_0(true, "the report of a replica");
  decider_->on_report(report, seconds_now());
}

void Server::on_partials(const Partials& partials) {
  require_server_0(true, "partial sums");
  decider_->on_partials(partials);
}

void Server::on_directive(const Directive& directive) {
  require_server_0(false, "a directive");
  const Directive& before = directives_.empty() ? last_ : directives_.back();
  const index_t update = before.update + (directive.contributors.empty() ? 0 : 1);
  if (directive.update != update || (update != before.update && partials_update_ != update)) {
    throw Error(text("server ", server_, " received the directive of update ", directive.update,
                     " while in update ", before.update + (applying_ ? 0 : 1),
                     "; are all ranks the same build?"));
  }
  directives_.push_back(directive);
  poll_directive();  // at once if nothing is being applied: the next messages may be about it
}

void Server::on_direction_partials(const DirectionPartials& partials) {
  require_server_0(true, "partial sums of directions");
  trust_.on_partials(partials, last_.update);
}

void Server::on_trust_ratios(const TrustRatios& trust) {
  require_server_0(false, "trust ratios");
  trust_.on_ratios(trust, last_.update);
}

void Server::on_save_begin(const SaveBegin& begin) {
  require_server_0(false, "the begin of a checkpoint");
  const auto of_it = [&](const Directive& each) {
    return each.checkpoint && each.step == begin.step;
  };
  if (std::ranges::any_of(directives_, of_it)) {
    early_begin_ = begin;
    return;
  }
  snapshot_.on_begin(begin);
}

void Server::on_save_prepared(const SavePrepared& prepared) {
  require_server_0(true, "a server's part of a checkpoint");
  snapshot_.on_prepared(prepared);
}

void Server::on_save_end(const SaveEnd& end) {
  require_server_0(false, "the end of a checkpoint");
  snapshot_.on_end(end);
  start_save();  // at once: server 0's next messages may be about it
}

void Server::request_stop() {
  require_server_0(true, "a request to stop");
  decider_->request_stop();
  snapshot_.on_stop_request();
}

void Server::begin_apply(const Directive& directive) {
  last_ = directive;
  if (!missing_.empty()) {
    const auto expect_again = [&](index_t replica) {
      missing_[static_cast<std::size_t>(replica)] = contributions_of_a_replica();
    };
    std::ranges::for_each(last_.contributors, expect_again);
    std::ranges::for_each(last_.dropped, expect_again);
  }
  applying_ = true;
  applied_count_ = 0;
  save_due_ = directive.checkpoint;
  trust_.begin(directive);
  start_save();
  if (save_due_ || !directive.checkpoint || !early_begin_) return;
  snapshot_.on_begin(*std::exchange(early_begin_, std::nullopt));
}

void Server::start_save() {
  // A save may be given up before all the residuals for it have come.
  if (!save_due_ || snapshot_.busy() || residuals_missing_ > 0) return;
  save_due_ = false;
  copied_ = false;
  if (residuals_.kept()) {
    residuals_missing_ = residuals_.count();
    outputs_.push_back(ResidualsDue{});
  }
  snapshot_.start(last_.step, last_.stop, decider_ ? decider_->progress() : Progress());
}

bool Server::poll() {
  if (auto message = snapshot_.poll()) {
    std::visit([&](auto&& each) { outputs_.push_back(std::move(each)); }, std::move(*message));
    return true;
  }
  return poll_directive() || poll_trust() || poll_apply() || poll_close() || poll_sum() ||
         poll_partials() || poll_decide();
}

bool Server::poll_directive() {
  if (applying_ || directives_.empty()) return false;
  begin_apply(directives_.front());
  directives_.pop_front();
  return true;
}

bool Server::poll_trust() {
  if (!trust_.poll(store_, last_)) return false;
  if (auto message = trust_.take_message()) {
    std::visit([&](auto&& each) { outputs_.push_back(std::move(each)); }, std::move(*message));
  }
  return true;
}

bool Server::poll_apply() {
  if (!applying_ || trust_.is_on()) return false;
  start_save();
  // The copy of the checkpoint before is still being written: training waits for the disk.
  if (save_due_) return false;
  const std::vector<index_t>& buckets = store_.buckets();
  if (applied_count_ < buckets.size()) {
    const index_t bucket = buckets[buckets.size() - 1 - applied_count_];  // pull order
    if (!unsent_.empty()) {
      index_t& unsent = unsent_[static_cast<std::size_t>(bucket)];
      if (unsent > 0 && !last_.contributors.empty()) return false;
      const auto readers = plan_->buckets()[static_cast<std::size_t>(bucket)].readers.size();
      unsent += std::ssize(last_.released) * static_cast<index_t>(readers);
      for (index_t replica : last_.dropped) store_.discard(bucket, replica);
    }
    step(bucket);
    outputs_.push_back(BucketStepped{bucket});
    ++applied_count_;
  }
  if (applied_count_ == buckets.size()) {
    if (last_.checkpoint) {
      copied_ = true;
      end_copying();
    }
    applying_ = false;
  }
  return true;
}

void Server::step(index_t bucket) {
  if (!last_.contributors.empty()) {
    store_.apply(bucket, last_, trust_.ratios());
    if (last_.skip == SkipReason::rollback) kept_.put_back(bucket, store_);
  }
  if (last_.keep) kept_.take(bucket, store_);
  if (last_.checkpoint) snapshot_.copy(bucket, store_);
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
  const index_t update = last_.update + 1;
  if (applying_ || last_.stop || partials_update_ == update || contributors_.empty() ||
      !store_.all_summed()) {
    return false;
  }
  partials_update_ = update;
  if (!missing_.empty()) contributors_.clear();
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
  if (!decider_ || applying_ || last_.stop || closed_ || !complete_.empty()) return false;
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
  return last_.stop && !applying_ && residuals_missing_ == 0 && !snapshot_.busy() &&
         outputs_.empty();
}

}  // namespace weir::ps
