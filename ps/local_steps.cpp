#include "ps/local_steps.hpp"

#include <algorithm>
#include <utility>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/wait.hpp"
#include "common/io/checkpoint_format.hpp"
#include "ps/save/resume.hpp"

namespace weir::ps {

LocalSteps::LocalSteps(ParameterService& servers, Server& own, const BucketPlan& own_plan,
                       const ServerConfig& config, const LocalPlace& place,
                       std::filesystem::path checkpoint)
    : servers_(servers),
      own_(own),
      own_service_(own, own_plan, [] { return false; }),
      own_plan_(own_plan),
      round_steps_(place.round_steps),
      batch_(config.training.batch),
      micro_batch_(config.training.micro_batch),
      replicas_(place.replicas),
      replica_(place.replica),
      optimizer_(name_of(config.optimizer.kind)),
      checkpoint_(std::move(checkpoint)) {
  WEIR_ASSERT(servers.weights().size() == own_service_.weights().size());
}

void LocalSteps::take_weights() {
  servers_.await_all();
  own_.take_weights(as<float>(servers_.weights()));
}

index_t LocalSteps::meeting() const { return (round_.step / round_steps_ + 1) * round_steps_; }

index_t LocalSteps::cursor() const {
  if (done_ == 0) return round_.cursor;
  // The first step takes up samples that an earlier step in another consistency mode has left out.
  const index_t taken_up = std::min(std::ssize(round_.replicas.again) * micro_batch_, batch_);
  return round_.cursor + done_ * batch_ - taken_up;
}

Directive LocalSteps::start() {
  round_ = servers_.start();
  load_own();
  own_.begin_at(round_.step);
  take_weights();  // the servers', not this replica's own
  Directive directive = round_;
  directive.order.loss_scale = own_service_.start().order.loss_scale;
  return directive;
}

void LocalSteps::load_own() {
  if (checkpoint_.empty()) return;
  const auto anew = [&](const std::string& why) {
    log_warning(text("moments and clip of replica ", replica_, "'s own steps begin anew: ", why));
  };
  const bool of_rounds = is_of_rounds(read_manifest(checkpoint_));
  const std::filesystem::path own =
      of_rounds
          ? checkpoint_folder(replica_checkpoints(checkpoint_.parent_path(), replica_), round_.step)
          : checkpoint_;
  if (!std::filesystem::exists(own)) return anew(text("there is no ", own.string()));
  if (of_rounds) {
    try {  // the servers' checkpoint was checked when it was chosen
      CheckpointReader(own).verify();
    } catch (const Error& error) {
      if (!means_damage(error)) throw;
      return anew(error.what());
    }
  }
  const auto settings = read_manifest(own).settings;
  const auto differs = [&](const char* name, const std::string& value) {
    const auto found = settings.find(name);
    return found == settings.end() || found->second != value;
  };
  if (of_rounds && differs("replicas", text(replicas_))) {
    return anew("the checkpoint has other replicas");
  }
  if (differs(kOptimizerSetting, optimizer_)) return anew("they were of another optimizer");
  own_.load(own);
  if (!of_rounds && replica_ == 0) {
    log_info("the replicas' own steps go on with the checkpoint's moments and clip");
  }
}

void LocalSteps::await_save() {
  const Waiting waiting("its own save", kNobody);
  wait_until([&] { return !own_.saving(); }, [&] { return progress(); });
}

void LocalSteps::finish() {
  await_save();
  servers_.finish();
}

bool LocalSteps::progress() {
  const bool own = own_service_.progress();
  return servers_.progress() || own;
}

void LocalSteps::report(const Report& report) {
  sum_.loss_sum += report.loss_sum;
  sum_.count += report.count;
  sum_.seconds += report.seconds;
  Report own = report;
  own.replica = 0;
  own_service_.report(own);
}

Directive LocalSteps::directive() {
  Directive own = own_service_.directive();
  ++done_;
  met_ = round_.step + done_ == meeting();
  const Directive servers = met_ ? end_round(own.order.checkpoint) : round_;
  // Norm, threshold and rate are those of this replica's step.
  own.step = round_.step + done_;
  own.cursor = cursor();
  own.replicas.shares = round_.replicas.shares;
  own.replicas.contributors = servers.replicas.contributors;
  own.observed.dropped_count = servers.observed.dropped_count;
  own.observed.server_times = servers.observed.server_times;
  own.order.stop = met_ && servers.order.stop;
  own.order.checkpoint = met_ && servers.order.checkpoint;
  if (met_) {  // the servers' figures are those of all replicas
    own.observed.loss = servers.observed.loss;
    own.observed.count = servers.observed.count;
  }
  return own;
}

Directive LocalSteps::end_round(bool saved) {
  await_save();
  // The servers divide by the count of all replicas, so this replica's change is weighted by its
  // loss terms.
  const auto count = static_cast<float>(sum_.count);
  const std::span<const float> from = as<float>(servers_.weights());
  const std::span<const float> to = own_.weight_arena();
  servers_.begin_update();
  const std::span<float> change = as<float>(servers_.gradients());
  for (std::size_t at = 0; at < change.size(); ++at) change[at] = count * (from[at] - to[at]);
  servers_.ready(0);
  sum_.step = meeting();
  sum_.replica = replica_;
  servers_.report(sum_);
  sum_ = {};
  round_ = servers_.directive();
  if (round_.order.checkpoint && !saved) own_.save();
  take_weights();
  done_ = 0;
  return round_;
}

ServerConfig server_config_of_rounds(ServerConfig config, const LocalConfig& local) {
  config.consistency.round_steps = local.steps;
  config.optimizer = {.kind = OptimizerKind::sgd,
                      .momentum = local.momentum,
                      .nesterov = local.momentum > 0,
                      .weight_decay = 0};
  config.clip = {.policy = ClipPolicy::none};
  config.rate = {.schedule = RateSchedule::constant, .peak = local.rate};
  config.training.precision = Precision::fp32;  // how far a replica went has no scale
  return config;
}

std::filesystem::path replica_checkpoints(const std::filesystem::path& checkpoints,
                                          index_t replica) {
  return checkpoints / text("replica-", replica);
}

ServerConfig server_config_of_replica(ServerConfig config, index_t replica) {
  config.consistency = {};
  config.checkpoint.beside = config.checkpoint.folder;
  config.checkpoint.folder = replica_checkpoints(config.checkpoint.folder, replica);
  config.checkpoint.notes[kReplicaSetting] = text(replica);
  config.decisions.clear();
  config.replay.clear();
  return config;
}

}  // namespace weir::ps
