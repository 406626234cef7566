#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "common/io/checkpoint_format.hpp"
#include "ps/local_service.hpp"
#include "ps/local_steps.hpp"
#include "tests/ps/simulated_job.hpp"

namespace weir::test {

/// One life of a job of one replica with local steps, which meets its server every two steps and
/// saves then. It goes on from the newest checkpoint.
class LocalLife {
 public:
  /// The server or the replica; each dies with its files, but only after the other one has gone as
  /// far as it can: the replica up to the end of its next round.
  struct Side {
    FileSystem& files;
    std::function<bool()> is_dead = [] { return false; };
  };

  LocalLife(const fs::path& checkpoints, index_t steps, const Side& server, const Side& replica)
      : server_side_(server), replica_side_(replica), config_(server_config(steps)) {
    config_.training.micro_batch = 2;
    config_.consistency.mode = ps::Consistency::local;
    config_.checkpoint.folder = checkpoints;
    config_.checkpoint.every = 2;
    config_.checkpoint.keep = 2;
    config_.checkpoint.wait_s = 0;  // nobody repairs what is dead
    config_.checkpoint.notes = {{"replicas", "1"}};
  }

  index_t salt = 0;  ///< tells gradients apart
  std::function<void(const ps::Server&)> after_step = [](const ps::Server&) {};

  /// False if a side has died.
  bool run() {
    ps::ServerConfig of_rounds = ps::server_config_of_rounds(config_, {.steps = 2});
    of_rounds.checkpoint.files = &server_side_.files;
    ps::ServerConfig of_replica = ps::server_config_of_replica(config_, 0);
    of_replica.checkpoint.files = &replica_side_.files;
    const fs::path newest = newest_complete(config_.checkpoint.folder).value_or(fs::path());
    ps::Server server(plan_, 0, of_rounds);
    if (!newest.empty()) server.load(newest);
    ps::Server own(plan_, 0, of_replica);
    MortalServers servers(*this, server);
    ps::LocalSteps steps(servers, own, plan_, config_, {.round_steps = 2}, newest);
    try {
      train(steps, server);
    } catch (const Killed&) {
      return false;
    } catch (const Error&) {  // the third save in a row that failed
      return false;
    }
    return true;
  }

 private:
  struct Killed {};

  /// The server in this process.
  class MortalServers final : public ParameterService {
   public:
    MortalServers(const LocalLife& life, ps::Server& server)
        : life_(life), server_(server), service_(server, life.plan_, [] { return false; }) {}

    ConstVector weights() const override { return service_.weights(); }
    Vector gradients() override { return service_.gradients(); }
    Directive start() override { return service_.start(); }
    void begin_update() override {
      end_save();
      if (life_.replica_side_.is_dead() || life_.server_side_.is_dead()) throw Killed();
      service_.begin_update();
    }
    void ready(index_t unit) override { service_.ready(unit); }
    bool progress() override { return service_.progress(); }
    void report(const Report& report) override { service_.report(report); }
    Directive directive() override { return service_.directive(); }
    void await(index_t unit) override { service_.await(unit); }
    void await_all() override { service_.await_all(); }
    void finish() override {
      end_save();
      if (life_.server_side_.is_dead()) throw Killed();
      service_.finish();
    }
    double waited_seconds() const override { return 0; }
    index_t pushed_bytes() const override { return 0; }
    index_t pulled_bytes() const override { return 0; }

   private:
    void end_save() {
      while (server_.saving() && !life_.server_side_.is_dead()) {
        if (!service_.progress()) std::this_thread::yield();
      }
    }

    const LocalLife& life_;
    ps::Server& server_;
    ps::LocalService service_;
  };

  void train(ParameterService& service, const ps::Server& server) {
    Directive directive = service.start();
    while (!directive.order.stop) {
      const index_t step = directive.step + 1;
      service.begin_update();
      for (const HeldSlice& slice : plan_.holding({}).slices) {
        for (index_t i = 0; i < slice.range.count(); ++i) {
          as<float>(service.gradients())[slice.offset + i] =
              made_up(1000 * step + salt, slice.parameter, slice.range.begin + i);
        }
      }
      for (index_t unit = 3; unit >= 0; --unit) service.ready(unit);
      service.report({.step = step, .replica = 0, .loss_sum = 100, .count = 700});
      directive = service.directive();
      service.await(0);
      after_step(server);
    }
    service.await_all();
    service.finish();
    after_step(server);
  }

  Side server_side_, replica_side_;
  ps::ServerConfig config_;
  const BucketPlan plan_ = plan_of({.placement = Placement::local}, 1 << 17, tiny_parameters());
};

}  // namespace weir::test
