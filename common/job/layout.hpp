#pragma once

#include <string>
#include <vector>

#include "common/base/options.hpp"
#include "common/number/index.hpp"

namespace weir {

/// Where the servers' state machine lives.
enum class Placement {
  dedicated,  ///< server ranks of their own, after the workers
  local,      ///< one worker, the server in its process, no mpirun
};

std::string name_of(Placement placement);

/// Where a worker stands: replica d of D, stage p of P, context c of C, shard t of T.
struct WorkerPlace {
  index_t replica = 0;
  index_t stage = 0;
  index_t context = 0;
  index_t shard = 0;
  bool operator==(const WorkerPlace&) const = default;
};

/// The only code that turns a rank into coordinates and back. World order: replica, stage, context,
/// shard (fastest), then the servers: D P C T + S ranks.
struct Layout {
  index_t replicas = 1;
  index_t stages = 1;
  index_t contexts = 1;
  index_t shards = 1;
  index_t servers = 1;
  Placement placement = Placement::dedicated;

  index_t worker_count() const { return replicas * stages * contexts * shards; }
  index_t rank_count() const {
    return placement == Placement::local ? 1 : worker_count() + servers;
  }
  bool is_server(index_t rank) const;
  WorkerPlace worker(index_t rank) const;
  index_t rank_of(const WorkerPlace& place) const;
  index_t rank_of_server(index_t server) const { return worker_count() + server; }
  index_t server(index_t rank) const { return rank - worker_count(); }

  /// "replica 1, stage 0, shard 2" or "server 0": for logs and errors.
  std::string role(index_t rank) const;
  /// Throws UsageError unless this layout runs on `ranks` MPI ranks; the message shows the
  /// arithmetic and the way out. Also refuses `local` with more than one worker.
  void check(index_t ranks) const;
};

std::vector<Option> options(Layout& layout);

}  // namespace weir
