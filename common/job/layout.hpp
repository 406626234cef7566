#pragma once

#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "common/base/interval.hpp"
#include "common/base/options.hpp"

namespace weir {

/// Where the servers' state machines run.
enum class Placement {
  dedicated,  ///< server ranks of their own, after the workers
  colocated,  ///< every worker rank is a server, too: worker rank r is server r
  local,      ///< one worker, the server in its process, no mpirun
};

std::string name_of(Placement placement);

/// The coordinates of a worker: replica d of D, stage p of P, context c of C, shard t of T.
struct WorkerPlace {
  index_t replica = 0;
  index_t stage = 0;
  index_t context = 0;
  index_t shard = 0;
  bool operator==(const WorkerPlace&) const = default;
};

/// The positions of a sequence that one context holds: [c N / C, (c + 1) N / C) for context c of C
/// and a sequence of N = `length` tokens.
Interval part_of_sequence(index_t length, index_t context, index_t contexts);
/// Tokens of the longest part of a sequence of at most `length`: ceil(length / contexts).
index_t longest_part(index_t length, index_t contexts);

/// The only code that turns a rank into coordinates and back. World order: replica, stage, context,
/// shard (fastest), then the servers: D P C T + S ranks; D P C T where workers are servers, too.
struct Layout {
  index_t replicas = 1;
  index_t stages = 1;
  index_t contexts = 1;
  index_t shards = 1;
  index_t servers = 1;  ///< equals the number of workers if colocated
  /// Replicas of a group, whose gradients are added up before the groups' sums are.
  index_t group_size = 1;
  Placement placement = Placement::dedicated;

  index_t worker_count() const { return replicas * stages * contexts * shards; }
  index_t rank_count() const {
    return worker_count() + (placement == Placement::dedicated ? servers : 0);
  }
  index_t group_count() const { return replicas / group_size; }
  index_t group_of(index_t replica) const { return replica / group_size; }
  bool leads(index_t replica) const { return replica % group_size == 0; }  ///< first of its group
  // A colocated rank is both.
  bool is_worker(index_t rank) const { return rank < worker_count(); }
  bool is_server(index_t rank) const;
  WorkerPlace worker(index_t rank) const;
  index_t rank_of(const WorkerPlace& place) const;
  index_t rank_of_server(index_t server) const { return first_server_rank() + server; }
  index_t server(index_t rank) const { return rank - first_server_rank(); }

  /// What a rank is, for logs and errors: "replica 1, stage 0, shard 2", "server 0", or, if
  /// colocated, "replica 1, stage 0, shard 2, server 5". Names the context, before the shard, if
  /// there is more than one.
  std::string role(index_t rank) const;
  std::string role(const WorkerPlace& place) const;  ///< its role as a worker only
  /// "2 replicas x 1 stage x 3 shards = 6 workers", with contexts if there is more than one.
  std::string arithmetic() const;
  /// Throws UsageError unless this layout runs on `ranks` MPI ranks; the message shows the
  /// arithmetic and the way out. Also refuses `local` with more than one worker.
  void check(index_t ranks) const;
  /// Throws UsageError unless groups divide the replicas.
  void check_groups() const;

 private:
  index_t first_server_rank() const {
    return placement == Placement::colocated ? 0 : worker_count();
  }
};

std::vector<Option> options(Layout& layout);

}  // namespace weir
