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

/// The tokens of a sequence that one context holds: positions [begin, end).
struct SequencePart {
  index_t begin = 0;
  index_t end = 0;
  index_t count() const { return end - begin; }
};

/// [c N / C, (c + 1) N / C) for context c of C and a sequence of N = `length` tokens.
SequencePart part_of_sequence(index_t length, index_t context, index_t contexts);
/// Tokens of the longest part of a sequence of at most `length`: ceil(length / contexts).
index_t longest_part(index_t length, index_t contexts);

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

  /// "replica 1, stage 0, shard 2" or "server 0": for logs and errors. Names the context, before
  /// the shard, if there is more than one.
  std::string role(index_t rank) const;
  /// "2 replicas x 1 stage x 3 shards = 6 workers", with contexts if there is more than one.
  std::string arithmetic() const;
  /// Throws UsageError unless this layout runs on `ranks` MPI ranks; the message shows the
  /// arithmetic and the way out. Also refuses `local` with more than one worker.
  void check(index_t ranks) const;
};

std::vector<Option> options(Layout& layout);

}  // namespace weir
