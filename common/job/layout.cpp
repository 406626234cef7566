#include "common/job/layout.hpp"

#include "common/base/error.hpp"
#include "common/base/even_part.hpp"

namespace weir {

std::string name_of(Placement placement) {
  switch (placement) {
    case Placement::dedicated:
      return "dedicated";
    case Placement::colocated:
      return "colocated";
    case Placement::local:
      return "local";
  }
  WEIR_UNREACHABLE();
}

Interval part_of_sequence(index_t length, index_t context, index_t contexts) {
  return even_part(length, context, contexts);
}

index_t longest_part(index_t length, index_t contexts) {
  return (length + contexts - 1) / contexts;
}

bool Layout::is_server(index_t rank) const {
  return placement == Placement::colocated ||
         (placement == Placement::dedicated && rank >= worker_count());
}

WorkerPlace Layout::worker(index_t rank) const {
  WEIR_ASSERT(rank >= 0 && rank < worker_count());
  WorkerPlace place;
  place.shard = rank % shards;
  place.context = rank / shards % contexts;
  place.stage = rank / (shards * contexts) % stages;
  place.replica = rank / (shards * contexts * stages);
  return place;
}

index_t Layout::rank_of(const WorkerPlace& place) const {
  return ((place.replica * stages + place.stage) * contexts + place.context) * shards + place.shard;
}

std::string Layout::role(index_t rank) const {
  const std::string as_server = is_server(rank) ? text("server ", server(rank)) : "";
  if (!is_worker(rank)) return as_server;
  return text(role(worker(rank)), as_server.empty() ? "" : ", ", as_server);
}

std::string Layout::role(const WorkerPlace& place) const {
  return text("replica ", place.replica, ", stage ", place.stage,
              contexts > 1 ? text(", context ", place.context) : "", ", shard ", place.shard);
}

static std::string counted(index_t count, const char* noun) {
  return text(count, " ", noun, count == 1 ? "" : "s");
}

std::string Layout::arithmetic() const {
  return text(counted(replicas, "replica"), " x ", counted(stages, "stage"), " x ",
              contexts > 1 ? text(contexts, " contexts x ") : "", counted(shards, "shard"), " = ",
              counted(worker_count(), "worker"));
}

void Layout::check(index_t ranks) const {
  if (placement == Placement::local) {
    if (worker_count() > 1) {
      throw UsageError(text("--placement local is one worker with the server in its process, but ",
                            arithmetic(), "; take --placement dedicated and start ",
                            worker_count() + servers,
                            " ranks, or set all of replicas, stages, contexts and shards to 1"));
    }
    if (ranks > 1) {
      throw UsageError(text("--placement local is one process, but mpirun started ", ranks,
                            "; start weir without mpirun, or take --placement dedicated"));
    }
    return;
  }
  if (ranks == rank_count()) return;
  const bool dedicated = placement == Placement::dedicated;
  std::string message =
      text(counted(rank_count(), "rank"), " needed: ", arithmetic(),
           dedicated ? text(" + ", counted(servers, "server")) : ", each a server, too", "; ");
  message += ranks == 1 ? std::string("1 was started") : text("mpirun started ", ranks);
  message += text(". Start mpirun with -n ", rank_count());
  const index_t workers_a_replica = worker_count() / replicas;
  const index_t for_workers = ranks - (rank_count() - worker_count());
  if (for_workers > 0 && for_workers % workers_a_replica == 0) {
    message += text(", or set --replicas ", for_workers / workers_a_replica);
  } else if (dedicated && ranks > worker_count()) {
    message += text(", or set --servers ", ranks - worker_count());
  }
  if (dedicated && ranks > 1 && ranks == worker_count()) {
    message += ", or take --placement colocated";
  }
  if (ranks == 1) message += ", or take --placement local for one process without mpirun";
  throw UsageError(message);
}

void Layout::check_groups() const {
  if (replicas % group_size == 0) return;
  std::string divisors;
  for (index_t size = 1; size <= replicas; ++size) {
    if (replicas % size == 0) divisors += text(divisors.empty() ? "" : ", ", size);
  }
  throw UsageError(text("--sum-groups ", group_size, " does not divide --replicas ", replicas,
                        " into equal groups; take one of ", divisors));
}

std::vector<Option> options(Layout& layout) {
  const Range count = {1, 65536};
  return {
      {"replicas", "", "copies of the model; each sees its share of a batch", &layout.replicas,
       count},
      {"stages", "", "pipeline stages that a replica is cut into", &layout.stages, count},
      {"contexts", "", "parts that a sequence is cut into", &layout.contexts, count},
      {"shards", "", "tensor shards that a stage is cut into", &layout.shards, count},
      {"servers", "", "parameter servers; leave it out with colocated, where each worker is one",
       &layout.servers, count},
      {"sum-groups", "replicas",
       "gradients of this number of neighbouring replicas are added up first, then the sums of "
       "these groups; a group on one host sends its gradients and gets its weights once",
       &layout.group_size, count},
      {"placement", "",
       "where the servers are. dedicated: on ranks of their own, after the workers; colocated: "
       "every worker is a server, too; local: one process without mpirun",
       choice(layout.placement, {{name_of(Placement::dedicated), Placement::dedicated},
                                 {name_of(Placement::colocated), Placement::colocated},
                                 {name_of(Placement::local), Placement::local}})},
  };
}

}  // namespace weir
