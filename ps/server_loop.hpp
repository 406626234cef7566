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

/// What surrounds a server on its rank: moves floats and messages between MPI and the state machine
/// until the job is done. A dedicated rank does nothing else; one that is a worker, too, calls
/// move() whenever its client moves or waits. The only file of ps/ that speaks MPI.
///
/// It has, with each worker, one row of pushes, which land where the store adds them up, and one of
/// pulls, which leave from where the store keeps the weights; both carry this server's buckets in
/// the order of that worker's Holding, as the data plane has it for the two. The other end is
/// worker/train/server_client.
class ServerLoop {
 public:
  /// world: all ranks of the layout. `server` has the memory that `plane` gives it.
  /// `stop_requested` is asked again and again; a server that is not server 0 passes it on to that.
  ServerLoop(const Comm& world, const BucketPlan& plan, index_t server_index, Server& server,
             DataPlane& plane, std::function<bool()> stop_requested);
  ~ServerLoop();

  /// begin(), then move() until finished(), asleep where nothing moves.
  void run();

  /// Sends where training begins, and the weights it begins from. Once, first.
  void begin();
  /// Moves what travels and does at most one bucket's work; never blocks. True if anything moved.
  bool move();
  /// The last directive is applied, everything is sent, and checkpoints are committed.
  bool finished() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::ps
