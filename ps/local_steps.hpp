#pragma once

#include <filesystem>
#include <string>

#include "common/job/parameter_service.hpp"
#include "ps/local_service.hpp"
#include "ps/server.hpp"

namespace weir::ps {

/// Options of `--consistency local`.
struct LocalConfig {
  index_t steps = 50;     ///< a replica makes by itself between two meetings
  double rate = 0.7;      ///< learning rate of the servers' step by what the replicas went
  double momentum = 0.9;  ///< Nesterov's, of this step
};

/// Which replica steps by itself, and how long.
struct LocalPlace {
  index_t round_steps = 1;  ///< LocalConfig::steps
  index_t replica = 0;
  index_t replicas = 1;
};

/// Local steps (`--consistency local`): a replica makes `local.steps` = H steps by itself, with an
/// optimizer, clip and rate of its own, from the weights w that the servers hold; then what it
/// went, w - w', travels as if it were a gradient, weighted with its count of loss terms, and the
/// servers step by the mean with Nesterov's momentum. So traffic is divided by H. The trainer sees
/// a ParameterService of single steps. Rounds end at multiples of H: a job that goes on from
/// another step begins with a shorter one. Source: Douillard et al., DiLoCo, arXiv 2311.08105.
///
/// What a replica's own server keeps (moments, clip, counters) has checkpoints of its own beside
/// the servers' (replica_checkpoints), so that a job goes on to the same bits. They are committed
/// before the round's end travels, or, where only the servers know of the checkpoint (a job that is
/// asked to stop), right after. A replica that finds none that fits begins anew, with a warning;
/// from a checkpoint of another consistency all replicas begin with its moments and clip.
class LocalSteps final : public ParameterService {
 public:
  /// `servers`: of rounds of H steps (server_config_of_rounds); `own`: a server of the plan
  /// `own_plan` of one worker and one server, whose arena is laid out as that of `place` among the
  /// servers. All outlive this. config: of the job, as the user has it. checkpoint: that the
  /// servers have loaded, empty if none.
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
  /// 0 but in the steps that end a round.
  index_t pushed_bytes() const override { return met_ ? servers_.pushed_bytes() : 0; }
  index_t pulled_bytes() const override { return met_ ? servers_.pulled_bytes() : 0; }

 private:
  void take_weights();
  index_t meeting() const;  ///< the step that ends the present round
  /// The global index of the first new sample after the steps of the present round that are done.
  index_t cursor() const;
  /// saved: the replica's own state, as of now.
  Directive end_round(bool saved);
  /// What the checkpoint has for this replica's own steps, if anything.
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
  Directive round_;   ///< that the present round began from
  index_t done_ = 0;  ///< steps of the round
  bool met_ = false;  ///< the newest step ended a round
  Report sum_;        ///< the round's, so far
};

/// The servers' side: an update of theirs is a round of H steps.
ServerConfig server_config_of_rounds(ServerConfig config, const LocalConfig& local);

/// A replica's own side: its optimizer, clip and rate are those of the job.
ServerConfig server_config_of_replica(ServerConfig config, index_t replica);

/// Where a replica saves what is its own, beside the servers' checkpoints of the same steps.
std::filesystem::path replica_checkpoints(const std::filesystem::path& checkpoints,
                                          index_t replica);

}  // namespace weir::ps
