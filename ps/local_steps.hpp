#pragma once

#include <filesystem>
#include <string>

#include "common/job/parameter_service.hpp"
#include "ps/local_service.hpp"
#include "ps/server.hpp"

namespace weir::ps {

/// Options of `--consistency local`.
struct LocalConfig {
  index_t steps = 50;     ///< steps that a replica makes by itself between two meetings
  double rate = 0.7;      ///< learning rate of the servers
  double momentum = 0.9;  ///< Nesterov momentum of the servers
};

/// Which replica steps by itself, and how long.
struct LocalPlace {
  index_t round_steps = 1;  ///< LocalConfig::steps
  index_t replica = 0;
  index_t replicas = 1;
};

/// Local steps (`--consistency local`): a replica makes `local.steps` = H steps by itself, with an
/// optimizer, clip and rate of its own, from the weights w that the servers hold. Then the
/// difference w - w' to its new weights w' travels as if it were a gradient, weighted with the
/// replica's count of loss terms, and the servers step by the mean with Nesterov's momentum. So
/// traffic is divided by H. The trainer sees a ParameterService of single steps. Rounds end at
/// multiples of H: a job that continues from another step begins with a shorter round. Source:
/// Douillard et al., DiLoCo, arXiv 2311.08105.
///
/// The state of a replica's own server (moments, clip, loss scale, counters) has checkpoints of its
/// own beside the servers' (replica_checkpoints), so that a resumed job continues to the same bits.
/// They are committed before the round's result travels, or right after if only the servers know of
/// the checkpoint (when a job is asked to stop). A replica that finds no checkpoint that fits
/// begins anew, with a warning. If the servers' checkpoint is of another consistency mode, all
/// replicas begin with its moments and clip.
class LocalSteps final : public ParameterService {
 public:
  /// `servers` make rounds of H steps (server_config_of_rounds). `own` is the only server of
  /// `own_plan`, a plan of one worker and one server whose arena is laid out as that of `place`
  /// among the servers. All outlive this. `config` is the job's, as the user has it. `checkpoint`
  /// is the one that the servers have loaded; empty if there is none.
  LocalSteps(ParameterService& servers, Server& own, const BucketPlan& own_plan,
             const ServerConfig& config, const LocalPlace& place, std::filesystem::path checkpoint);

  ConstVector weights() const override { return own_service_.weights(); }
  Vector gradients() override { return own_service_.gradients(); }

  Directive start() override;
  void begin_update() override { own_service_.begin_update(); }
  void ready(index_t unit) override { own_service_.ready(unit); }
  bool progress() override;
  void report(const Report& report) override;
  Directive directive() override;
  void await(index_t) override {}
  void await_all() override {}
  void finish() override;

  double waited_seconds() const override { return servers_.waited_seconds(); }
  /// 0 except in steps that end a round.
  index_t pushed_bytes() const override { return met_ ? servers_.pushed_bytes() : 0; }
  index_t pulled_bytes() const override { return met_ ? servers_.pulled_bytes() : 0; }

 private:
  void take_weights();
  index_t meeting() const;  ///< the step that ends the present round
  /// The global index of the first new sample after the steps of the present round that are done.
  index_t cursor() const;
  /// Ends a round with the servers. `saved`: a save of the replica's own state has been made for
  /// this step.
  Directive end_round(bool saved);
  /// Loads what the checkpoint has for this replica's own steps, if anything.
  void load_own();
  void await_save();

  ParameterService& servers_;
  Server& own_;
  LocalService own_service_;
  const BucketPlan& own_plan_;
  index_t round_steps_;
  index_t batch_;
  index_t micro_batch_;
  index_t replicas_;
  index_t replica_;
  std::string optimizer_;
  std::filesystem::path checkpoint_;
  Directive round_;   ///< the directive that the present round began from
  index_t done_ = 0;  ///< steps of the round that are done
  bool met_ = false;  ///< the newest step ended a round
  Report sum_;        ///< the sum over the round so far
};

/// The configuration of the servers, for which an update is a round of H steps.
ServerConfig server_config_of_rounds(ServerConfig config, const LocalConfig& local);

/// The configuration of a replica's own server: optimizer, clip and rate are those of the job.
ServerConfig server_config_of_replica(ServerConfig config, index_t replica);

/// Where a replica saves its own state, beside the servers' checkpoints of the same steps.
std::filesystem::path replica_checkpoints(const std::filesystem::path& checkpoints,
                                          index_t replica);

}  // namespace weir::ps
