#pragma once

#include <functional>
#include <memory>

#include "common/job/bucket.hpp"

namespace weir {
class Comm;
}

namespace weir::ps {

class Server;

/// A dedicated server's rank: moves floats and messages between MPI and the state machine until the
/// job is done. The only file of ps/ that speaks MPI.
///
/// With each worker it has one channel of pushes, which land where the store adds them up, and one
/// of pulls, which leave from where the store keeps the weights; both carry this server's buckets
/// in the order of that worker's Holding. The other end is worker/train/server_client.
class ServerLoop {
 public:
  /// world: all ranks of the layout. `stop_requested` is asked again and again; server 0's answer
  /// counts.
  ServerLoop(const Comm& world, const BucketPlan& plan, index_t server_index, Server& server,
             std::function<bool()> stop_requested);
  ~ServerLoop();

  /// Returns when the last directive is applied, everything is sent, and checkpoints are committed.
  void run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::ps
