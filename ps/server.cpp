#include "ps/server.hpp"

#include <utility>

#include "common/base/error.hpp"
#include "ps/resume.hpp"

namespace weir::ps {
namespace {

DecideConfig decide_config(const ServerConfig& config) {
  return {.clip = config.clip,
          .rate = config.rate,
          .steps = config.steps,
          .batch = config.batch,
          .checkpoints = !config.checkpoint.folder.empty(),
          .checkpoint_every = config.checkpoint.every};
}

}  // namespace

std::vector<Option> options(ServerConfig& config) {
  std::vector<Option> rows = options(config.optimizer);
  for (const auto& table :
       {options(config.rate), options(config.clip), options(config.checkpoint)}) {
    rows.insert(rows.end(), table.begin(), table.end());
  }
  return rows;
}

Server::Server(const BucketPlan& plan, index_t server, const ServerConfig& config)
    : plan_(&plan),
      server_(server),
      config_(config),
      store_(plan, server, config.optimizer, config.seed),
      snapshot_(plan, server, config.checkpoint, config.optimizer.kind, config.clip.policy) {
  if (server == 0) decider_.emplace(plan, decide_config(config));
  last_ = Directive{};
  last_.stop = config.steps == 0;
}

void Server::load(const std::filesystem::path& checkpoint) {
  WEIR_ASSERT(last_.update == 0 && !applying_ && complete_.empty());
  const Progress progress = load_checkpoint(
      checkpoint, {config_.checkpoint.settings, config_.optimizer.kind, config_.clip}, *plan_,
      store_);
  store_.begin_with(progress.step + 1);
  partials_update_ = progress.step;
  last_.update = last_.step = progress.step;
  last_.cursor = progress.cursor;
  last_.skipped_count = progress.skipped_count;
  last_.stop = progress.step >= config_.steps;
  if (decider_) decider_->restore(progress);
}

Directive Server::start() const { return decider_ ? decider_->start() : last_; }

void Server::on_contribution(index_t bucket, index_t contributor) {
  if (!store_.accepts(bucket)) {
    throw Error(text("a contribution to bucket ", bucket, " from contributor ", contributor,
                     " came before update ", store_.update(bucket), " was applied to it"));
  }
  if (store_.arrived(bucket, contributor)) complete_.push_back(bucket);
}

void Server::require_server_0(bool is_0, const char* what) const {
  if (is_0 == (server_ == 0)) return;
  throw Error(text("server ", server_, " received ", what,
                   is_0 ? ", which is for server 0" : ", which server 0 sends to the others"));
}

void Server::on_report(const Report& report) {
  require_server_0(true, "the report of a replica");
  decider_->on_report(report);
}

void Server::on_partials(const Partials& partials) {
  require_server_0(true, "partial sums");
  decider_->on_partials(partials);
}

void Server::on_directive(const Directive& directive) {
  require_server_0(false, "a directive");
  if (applying_ || directive.update != last_.update + 1 || partials_update_ != directive.update) {
    throw Error(text("server ", server_, " received the directive of update ", directive.update,
                     " while in update ", last_.update + (applying_ ? 0 : 1),
                     "; are all ranks the same build?"));
  }
  begin_apply(directive);
}

void Server::on_save_begin(const SaveBegin& begin) {
  require_server_0(false, "the begin of a checkpoint");
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
}

void Server::begin_apply(const Directive& directive) {
  last_ = directive;
  applying_ = true;
  applied_count_ = 0;
  save_due_ = directive.checkpoint;
  start_save();
}

void Server::start_save() {
  if (!save_due_ || snapshot_.busy()) return;
  save_due_ = false;
  snapshot_.start(last_.step, last_.stop, decider_ ? decider_->progress() : Progress());
}

bool Server::poll() {
  if (auto message = snapshot_.poll()) {
    std::visit([&](auto&& each) { outputs_.push_back(std::move(each)); }, std::move(*message));
    return true;
  }
  return poll_apply() || poll_sum() || poll_partials() || poll_decide();
}

bool Server::poll_apply() {
  if (!applying_) return false;
  start_save();
  // The copy of the checkpoint before is still being written: training waits for the disk.
  if (save_due_) return false;
  const std::vector<index_t>& buckets = store_.buckets();
  if (applied_count_ < buckets.size()) {
    const index_t bucket = buckets[buckets.size() - 1 - applied_count_];  // pull order
    store_.apply(bucket, last_);
    if (last_.checkpoint) snapshot_.copy(bucket, store_);
    outputs_.push_back(BucketStepped{bucket});
    ++applied_count_;
  }
  if (applied_count_ == buckets.size()) {
    if (last_.checkpoint) snapshot_.copied();
    applying_ = false;
  }
  return true;
}

bool Server::poll_sum() {
  if (complete_.empty()) return false;
  store_.sum(complete_.front());
  complete_.pop_front();
  return true;
}

bool Server::poll_partials() {
  const index_t update = last_.update + 1;
  if (applying_ || last_.stop || partials_update_ == update || !store_.all_summed()) return false;
  partials_update_ = update;
  Partials partials = {.update = update, .server = server_, .squares = store_.partials()};
  if (decider_) {
    decider_->on_partials(partials);
  } else {
    outputs_.push_back(std::move(partials));
  }
  return true;
}

bool Server::poll_decide() {
  if (!decider_ || applying_ || last_.stop) return false;
  const std::optional<Directive> directive = decider_->decide();
  if (!directive) return false;
  outputs_.push_back(*directive);
  begin_apply(*directive);
  return true;
}

std::optional<Output> Server::next_output() {
  if (outputs_.empty()) return std::nullopt;
  Output output = std::move(outputs_.front());
  outputs_.pop_front();
  return output;
}

bool Server::done() const {
  return last_.stop && !applying_ && !snapshot_.busy() && outputs_.empty();
}

}  // namespace weir::ps
