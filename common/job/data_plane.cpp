#include "common/job/data_plane.hpp"

#include <algorithm>

#include "common/base/log.hpp"
#include "common/net/agree.hpp"
#include "common/net/window.hpp"

namespace weir {
namespace {

List<index_t> hosts_of(const Comm& world, const Comm& host) {
  // The first rank of a host is the one farthest below the number of ranks.
  const index_t size = world.size();
  const index_t first = size - host.max(size - world.rank());
  List<index_t> hosts(size, 0);
  hosts[world.rank()] = first;
  world.sum(hosts);
  return hosts;
}

}  // namespace

std::string name_of(Transport transport) {
  switch (transport) {
    case Transport::automatic:
      return "auto";
    case Transport::window:
      return "window";
    case Transport::messages:
      return "messages";
  }
  WEIR_UNREACHABLE();
}

DataPlane::DataPlane(const Comm& world, const Comm& host, const BucketPlan& plan,
                     Transport transport, bool in_lockstep, index_t ring_depth)
    : world_(&world),
      plan_(&plan),
      ring_depth_(static_cast<int>(ring_depth)),
      host_of_(hosts_of(world, host)) {
  const bool in_place = in_lockstep && plan.wire().push.is_raw() && plan.wire().pull.is_raw();
  if (transport == Transport::window) agree(world, why_no_window(in_place));
  const index_t bytes = lay_out();
  std::optional<Error> refused;
  if (transport != Transport::messages && in_place && !parts_.empty() && !servers_here_.empty()) {
    try {
      window_ = std::make_unique<SharedWindow>(host, bytes);
    } catch (const AgreedError& error) {
      refused = error;
      if (transport == Transport::automatic && error.speaks()) {
        log_warning(
            text("buckets travel as messages on this host, which is slower: ", error.what()));
      }
    }
  }
  if (transport == Transport::window) agree(world, refused);

  const index_t self = world.rank();
  if (!parts_.contains(self)) return;
  if (window_) {
    weights_ = weights_of(self);
    gradients_ = gradients_of(self);
  } else {
    const index_t count = parts_.at(self).element_count;
    own_weights_ = Memory(count, bytes_of(plan.weight_dtype()));
    own_gradients_ = Memory(count, bytes_of(kArenaDtype));
    weights_ = own_weights_.elements(plan.weight_dtype());
    gradients_ = own_gradients_.elements(kArenaDtype);
  }
}

DataPlane::~DataPlane() = default;

std::optional<Error> DataPlane::why_no_window(bool in_place) const {
  if (!in_place) {
    return UsageError(
        "--transport window: all replicas of a host read the same weights, which is right only "
        "where every replica takes part in every update (--consistency bsp without --backup) and "
        "wires are fp32; take --transport messages");
  }
  const Layout& layout = plan_->layout();
  for (index_t worker = 0; worker < layout.worker_count(); ++worker) {
    for (index_t server = 0; server < layout.servers; ++server) {
      const index_t rank = layout.rank_of_server(server);
      if (host_of_[worker] == host_of_[rank]) {
        continue;
      }
      return UsageError(text("--transport window: rank ", worker, " (", layout.role(worker),
                             ") and rank ", rank, " (server ", server,
                             ") are on different hosts; take --transport auto, which uses messages "
                             "between them"));
    }
  }
  return std::nullopt;
}

bool DataPlane::here(index_t rank) const { return host_of_[rank] == host_of_[world_->rank()]; }

index_t DataPlane::lay_out() {
  const Layout& layout = plan_->layout();
  for (index_t server = 0; server < layout.servers; ++server) {
    if (here(layout.rank_of_server(server))) servers_here_.push_back(layout.rank_of_server(server));
  }
  const bool one_copy = servers_here_.size() == layout.servers;
  List<index_t> bytes(host_of_.size(), 0);
  int host_rank = 0;
  std::map<std::pair<index_t, index_t>, index_t> first_holder;  // of (stage, shard)
  for (index_t rank = 0; rank < host_of_.size(); ++rank) {
    if (!here(rank)) continue;
    index_t& used = bytes[rank];
    if (layout.is_worker(rank)) {
      const WorkerPlace place = layout.worker(rank);
      WorkerPart part;
      part.host_rank = host_rank;
      const Holding& holding = plan_->holding(holder_of(place));
      part.element_count = holding.element_count;
      part.gradients = round_up(2 * servers_here_.size() * index_t{sizeof(WindowLine)}, kPageBytes);
      used = part.gradients + round_up(holding.bytes(kArenaDtype), kPageBytes);
      const auto [first, is_first] = first_holder.try_emplace({place.stage, place.shard}, rank);
      part.weights_of = one_copy ? first->second : rank;
      part.weights = used;
      if (part.weights_of == rank) {
        used += round_up(holding.bytes(plan_->weight_dtype()), kPageBytes);
      }
      parts_.emplace(rank, part);
    }
    ++host_rank;
  }
  return bytes[world_->rank()];
}

bool DataPlane::on_small_pages() const { return window_ && !window_->on_huge_pages(); }

std::optional<std::pair<int, int>> DataPlane::pair_of_host() const {
  for (const auto& [worker, part] : parts_) {
    for (index_t server : servers_here_) {
      if (server != worker) return std::pair(static_cast<int>(worker), static_cast<int>(server));
    }
  }
  return std::nullopt;
}

std::optional<int> DataPlane::far_server() const {
  for (index_t server = 0; server < plan_->layout().servers; ++server) {
    const index_t rank = plan_->layout().rank_of_server(server);
    if (host_of_[rank] != host_of_[0]) return static_cast<int>(rank);
  }
  return std::nullopt;
}

Vector DataPlane::arena(const WorkerPart& part, index_t offset, Dtype dtype) const {
  return {window_->part(part.host_rank).data() + offset, dtype, MemoryKind::host,
          part.element_count};
}

Vector DataPlane::weights_of(index_t worker) const {
  const WorkerPart& owner = parts_.at(parts_.at(worker).weights_of);
  return arena(owner, owner.weights, plan_->weight_dtype());
}

Vector DataPlane::gradients_of(index_t worker) const {
  const WorkerPart& part = parts_.at(worker);
  return arena(part, part.gradients, kArenaDtype);
}

WindowLine& DataPlane::line(index_t worker, index_t server_rank, ChannelKind kind) const {
  const WorkerPart& part = parts_.at(worker);
  const auto server = std::ranges::find(servers_here_, server_rank) - servers_here_.begin();
  const index_t at = 2 * server + (kind == ChannelKind::pull ? 1 : 0);
  return reinterpret_cast<WindowLine*>(window_->part(part.host_rank).data())[at];
}

BucketMemory DataPlane::server_memory() const {
  BucketMemory memory;
  if (!window_) return memory;
  const auto& buckets = plan_->buckets();
  memory.weights.resize(buckets.size());
  memory.contributions.resize(buckets.size());
  const Layout& layout = plan_->layout();
  for (const auto& [worker, part] : parts_) {
    const WorkerPlace place = layout.worker(worker);
    for (const HeldBucket& held : plan_->holding(holder_of(place)).buckets) {
      const index_t at = held.bucket;
      const Bucket& bucket = buckets[at];
      if (layout.rank_of_server(bucket.server) != world_->rank()) continue;
      if (memory.weights[at].empty()) memory.weights[at] = plan_->part(weights_of(worker), held);
      if (!held.pushes) continue;
      const auto& all = bucket.contributors;
      const auto position = std::ranges::find(all, holder_of(place)) - all.begin();
      memory.contributions[at].resize(layout.replicas * all.size());
      memory.contributions[at][place.replica * all.size() + position] =
          plan_->part(gradients_of(worker), held);
    }
  }
  return memory;
}

std::unique_ptr<FrameSender> DataPlane::sender(int peer, ChannelKind kind,
                                               const List<std::span<const std::byte>>& frames) {
  const index_t worker = kind == ChannelKind::push ? world_->rank() : peer;
  const index_t server = kind == ChannelKind::push ? peer : world_->rank();
  if (!by_window_with(peer)) {
    return std::make_unique<SendChannel>(*world_, peer, kind, frames, ring_depth_);
  }
  // What a worker pushes, and what the servers step where it reads, is there already.
  List<std::span<std::byte>> copies(frames.size());
  if (kind == ChannelKind::pull && parts_.at(worker).weights_of == worker) {
    const auto& held = plan_->holding(holder_of(plan_->layout().worker(worker))).buckets;
    index_t frame = 0;
    for (auto each = held.rbegin(); each != held.rend(); ++each) {
      const Bucket& bucket = plan_->buckets()[each->bucket];
      if (plan_->layout().rank_of_server(bucket.server) != server) continue;
      const auto place = plan_->part(weights_of(worker), *each).bytes();
      WEIR_ASSERT(frames[frame].size() == place.size());
      if (frames[frame].data() != place.data()) copies[frame] = place;
      ++frame;
    }
    WEIR_ASSERT(frame == frames.size());
  }
  return std::make_unique<WindowSender>(line(worker, server, kind), frames, std::move(copies));
}

std::unique_ptr<FrameReceiver> DataPlane::receiver(int peer, ChannelKind kind,
                                                   const List<std::span<std::byte>>& frames) {
  const index_t worker = kind == ChannelKind::pull ? world_->rank() : peer;
  const index_t server = kind == ChannelKind::pull ? peer : world_->rank();
  if (!by_window_with(peer)) {
    return std::make_unique<ReceiveChannel>(*world_, peer, kind, frames, ring_depth_);
  }
  return std::make_unique<WindowReceiver>(line(worker, server, kind), frames.size());
}

}  // namespace weir
