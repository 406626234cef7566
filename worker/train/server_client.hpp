#pragma once

#include <functional>
#include <memory>

#include "common/job/layout.hpp"
#include "common/job/parameter_service.hpp"

namespace weir {
class Comm;
class DataPlane;
}  // namespace weir

namespace weir::worker {

/// The share of the store on a worker's own rank, if there is one. It must be served whenever the
/// worker waits, since the ranks that this worker waits for may need it first.
struct OwnServer {
  std::function<bool()> move = [] { return false; };     ///< never blocks; true if anything moved
  std::function<bool()> finished = [] { return true; };  ///< true once no rank needs it any more
};

/// A worker's end of the protocol with servers on other ranks or its own: one row of pushes and one
/// of pulls to each server, with the buckets of this holder in the plan's order, as the data plane
/// has it for the two; control messages with server 0. Raw gradients are pushed from, and raw
/// weights pulled to, the place where the stage works on them, without copies. With another wire a
/// bucket is encoded when it is ready and decoded when it arrives.
///
/// The leader of a team (common/job/team.hpp) pushes sums of all its gradients, and a pull of its
/// is a pull of all. The others have the leader at the other end of their rows, and cannot tell.
class ServerClient final : public ParameterService {
 public:
  /// world: workers and servers, as `layout` orders them. Construction is not collective; the
  /// servers' loop is the other end. `own_server` is moved whenever this moves or waits, and
  /// finish() waits for it, too; its work while the client waits counts as waiting.
  /// `stop_requested` is asked whenever this moves; server 0 is told once.
  ServerClient(
      const Comm& world, const WorkerPlace& place, const BucketPlan& plan, DataPlane& plane,
      OwnServer own_server = {}, std::function<bool()> stop_requested = [] { return false; });
  ~ServerClient() override;

  ConstVector weights() const override;
  Vector gradients() override;
  Directive start() override;
  void begin_update() override;
  void ready(index_t unit) override;
  bool progress() override;
  void report(const Report& report) override;
  Directive directive() override;
  void await(index_t unit) override;
  void await_all() override;
  void finish() override;
  double waited_seconds() const override;
  index_t pushed_bytes() const override;
  index_t pulled_bytes() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::worker
