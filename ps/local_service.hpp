#pragma once

#include <functional>
#include <optional>

#include "common/job/parameter_service.hpp"
#include "ps/server.hpp"

namespace weir::ps {

/// The servers' state machine in the worker's process: one worker, one server, no MPI. Weights and
/// gradients lie in the server's own memory, nothing is copied. The server works when the worker
/// calls progress() and while it waits: one thread for both.
class LocalService final : public ParameterService {
 public:
  /// `plan` has one holder, one replica, one server. `stop_requested` is asked once an update, and
  /// while a checkpoint is made, until it returns true. Both and the server outlive this.
  LocalService(Server& server, const BucketPlan& plan, std::function<bool()> stop_requested);

  ConstVector weights() const override { return server_->read_arena(); }
  Vector gradients() override { return server_->gradient_arena(); }

  Directive start() override { return server_->start(); }
  void begin_update() override;
  void ready(index_t unit) override;
  bool progress() override { return work(); }
  void report(const Report& report) override { server_->on(report); }
  Directive directive() override;
  void await(index_t unit) override;
  void await_all() override {}
  void finish() override;

  double waited_seconds() const override { return waited_seconds_; }
  index_t pushed_bytes() const override { return 0; }
  index_t pulled_bytes() const override { return 0; }

 private:
  void look_for_stop();
  /// Does one piece of the server's work; false if there was none.
  bool work();
  /// Works for the server, and sleeps where that waits for the disk.
  template <class Done>
  void work_until(const Done& done);

  Server* server_;
  const Holding* holding_;
  std::function<bool()> stop_requested_;
  bool stop_seen_ = false;
  index_t pushed_count_ = 0;   ///< buckets pushed in this update
  index_t stepped_count_ = 0;  ///< buckets stepped since the last directive
  std::optional<Directive> decided_;
  double waited_seconds_ = 0;
};

}  // namespace weir::ps
