#pragma once

#include <functional>
#include <memory>

#include "common/job/bucket.hpp"

namespace weir {
class Comm;
class DataPlane;
}  // namespace weir

namespace weir::ps {

class Server;

/// The loop around a server: it moves floats and messages between MPI and the state machine until
/// the job is done. A dedicated rank does nothing else; a rank that is a worker, too, calls move()
/// whenever its client moves or waits. No other file of ps/ speaks MPI.
///
/// It has one row of pushes and one of pulls with each worker. Pushes land where the store adds
/// them up; pulls leave from where the store keeps the weights. Both carry this server's buckets in
/// the order of that worker's Holding, as the data plane has it for the two. The other end is
/// worker/train/server_client. Workers that are led (DataPlane::is_led) have no rows, because their
/// leader has theirs.
class ServerLoop {
 public:
  /// world: all ranks of the layout. `server` has the memory that `plane` gives it.
  /// `stop_requested` is asked again and again; servers other than server 0 pass a request on to
  /// server 0.
  ServerLoop(const Comm& world, const BucketPlan& plan, index_t server_index, Server& server,
             DataPlane& plane, std::function<bool()> stop_requested);
  ~ServerLoop();

  /// Calls begin(), then move() until finished(), and sleeps when nothing moves.
  void run();

  /// Sends where training begins, and the weights that it begins from. To be called once, first.
  void begin();
  /// Moves what travels and does at most one bucket's work; never blocks. True if anything moved.
  bool move();
  /// True once the last directive is applied, everything is sent, and checkpoints are committed.
  bool finished() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::ps
