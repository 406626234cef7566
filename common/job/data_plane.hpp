#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/base/error.hpp"
#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/job/bucket_memory.hpp"
#include "common/net/channel.hpp"
#include "common/number/memory.hpp"

namespace weir {

class SharedWindow;
class Team;
struct WindowLine;

/// How buckets travel between a worker and a server.
enum class Transport {
  automatic,  ///< the window where both are on one host, else messages
  window,     ///< the window everywhere, or an error
  messages,
};

std::string name_of(Transport transport);

/// Where the gradients and weights of the workers lie, and how they get to the servers and back.
///
/// A window saves all copies: a worker's gradients lie in memory that the servers of its host
/// add up from, and the weights of a (stage, shard) lie once a host, where a server steps them (or
/// rounds them to, if workers hold another dtype than f32) and all replicas and contexts of that
/// host read them. If some server is on another host, each
/// worker has weights of its own, since messages land there too, and the servers of its host copy
/// to all but the first of a bucket's readers. Everything else travels as messages.
///
/// What travels as messages does so once for each team (Team), if groups have several replicas: the
/// others reach the leader in a window, whatever the plan's wires are. A group whose replicas are
/// on several hosts has no teams: each of its workers pushes f32, and the servers add these up.
class DataPlane {
 public:
  /// Collective. world: all ranks of the plan's layout, in its order. host: those of them that
  /// share memory with this one (Comm::host), in the same order. All must outlive this.
  ///
  /// in_lockstep: every replica takes part in every update. Without that a weight that all replicas
  /// read must not be written while only some are done with it, so there is no window; nor is there
  /// one where the plan's wires are not raw, since then nothing can be read in place. Without it
  /// groups are of one replica.
  ///
  /// ring_depth: frames under way at once in each channel of messages.
  ///
  /// Throws AgreedError if `transport` is window and some worker and some server cannot have one.
  DataPlane(const Comm& world, const Comm& host, const BucketPlan& plan, Transport transport,
            bool in_lockstep, index_t ring_depth = kChannelDepth);
  ~DataPlane();

  /// Whether there is a window between this rank and that one, a worker and a server.
  bool by_window_with(int peer) const { return in_place_ && window_ != nullptr && here(peer); }

  /// Whether a worker exchanges the buckets of the server of that rank with the leader of its team
  /// and not with the server. All ranks know it, and the next two, of all workers.
  bool is_led(index_t worker, index_t server_rank) const;
  bool in_team(index_t worker) const { return !in_team_.empty() && in_team_[worker]; }
  /// How the buckets of a worker travel: raw where the push wire is for sums of groups and this
  /// worker pushes no such sum, and where it is led.
  WireConfig wire_of(index_t worker) const;
  /// The rank to which this worker's buckets of that server go first.
  int next_rank_to(int server_rank) const;
  /// The team that this worker leads in its traffic with that server; none if it is alone.
  std::unique_ptr<Team> team(int server_rank) const;

  /// Whether this rank takes part in a window of small pages.
  bool on_small_pages() const;

  /// The first worker and the first server of this rank's host that are different ranks (of world),
  /// if it has such.
  std::optional<std::pair<int, int>> pair_of_host() const;
  /// The first server that is not on the host of rank 0, if any.
  std::optional<int> far_server() const;

  /// The arenas of this rank, if it is a worker: zeros in the beginning, offsets as in its Holding.
  /// Weights have the plan's weight dtype.
  ConstVector weights() const { return weights_; }
  Vector mutable_weights() { return weights_; }  ///< for messages to land
  Vector gradients() { return gradients_; }

  /// Where the buckets of this rank lie, if it is a server.
  BucketMemory server_memory() const;

  /// This rank's ends of pushes (a worker sends, a server receives) and pulls. frames: the buckets
  /// that `peer` and this rank share, of a worker in push order, reversed for pulls.
  std::unique_ptr<FrameSender> sender(int peer, ChannelKind kind,
                                      const List<std::span<const std::byte>>& frames);
  std::unique_ptr<FrameReceiver> receiver(int peer, ChannelKind kind,
                                          const List<std::span<std::byte>>& frames);

 private:
  /// Where the memory of a worker of this host lies in the window.
  struct WorkerPart {
    int host_rank = 0;
    index_t gradients = 0;      ///< bytes from the part's begin, after the lines
    index_t weights = 0;        ///< the same, in the part of weights_of
    index_t weights_of = 0;     ///< the worker in whose part the weights lie: itself, or the first
    index_t element_count = 0;  ///< size of each arena
  };

  bool here(index_t rank) const;
  index_t leader_of(index_t worker) const;
  /// The workers of its team, the leader first, if they can be one: several, on one host.
  List<index_t> team_of(index_t worker) const;
  bool needs_window() const;
  List<HeldBucket> buckets_with(index_t worker, index_t server_rank) const;
  std::optional<Error> why_no_window() const;
  /// Lays the parts out; the size of this rank's.
  index_t lay_out();
  Vector arena(const WorkerPart& part, index_t offset, Dtype dtype) const;
  Vector weights_of(index_t worker) const;
  Vector gradients_of(index_t worker) const;
  WindowLine& line(index_t worker, index_t server_rank, ChannelKind kind) const;

  const Comm* world_;
  const BucketPlan* plan_;
  bool in_place_;  ///< whether buckets may be read where they lie
  int ring_depth_;
  List<index_t> host_of_;                ///< the first rank of each rank's host
  std::map<index_t, WorkerPart> parts_;  ///< the workers of this host, by rank
  List<index_t> servers_here_;           ///< ranks
  std::unique_ptr<SharedWindow> window_;
  List<bool> in_team_;                  ///< workers that are of one, by rank
  Memory own_weights_, own_gradients_;  ///< without a window
  Vector weights_, gradients_;
};

}  // namespace weir
