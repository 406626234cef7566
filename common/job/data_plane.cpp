#include "common/job/data_plane.hpp"

#include <algorithm>

#include "common/base/log.hpp"
#include "common/job/team.hpp"
#include "common/net/agree.hpp"
#include "common/net/traced_frames.hpp"
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
      in_place_(in_lockstep && plan.wire().push.is_raw() && plan.wire().pull.is_raw()),
      ring_depth_(static_cast<int>(ring_depth)),
      host_of_(hosts_of(world, host)) {
  WEIR_ASSERT(in_lockstep || plan.layout().group_size == 1);
  if (transport == Transport::window) agree(world, why_no_window());
  const index_t bytes = lay_out();
  std::optional<Error> refused;
  if (transport != Transport::messages && needs_window()) {
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
  if (plan.layout().group_size > 1) {
    List<index_t> teams(plan.layout().worker_count(), 0);
    if (parts_.contains(self)) teams[self] = window_ && !team_of(self).empty() ? 1 : 0;
    world.sum(teams);
    in_team_.assign(teams.begin(), teams.end());
  }
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

std::optional<Error> DataPlane::why_no_window() const {
  if (!in_place_) {
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

index_t DataPlane::leader_of(index_t worker) const {
  const Layout& layout = plan_->layout();
  WorkerPlace place = layout.worker(worker);
  place.replica -= place.replica % layout.group_size;
  return layout.rank_of(place);
}

List<index_t> DataPlane::team_of(index_t worker) const {
  const Layout& layout = plan_->layout();
  WorkerPlace place = layout.worker(leader_of(worker));
  List<index_t> team;
  for (index_t each = 0; each < layout.group_size; ++each, ++place.replica) {
    team.push_back(layout.rank_of(place));
    if (host_of_[team.back()] != host_of_[team.front()]) return {};
  }
  return team.size() > 1 ? team : List<index_t>();
}

/// Whether buckets are read where they lie on this host, or a team sends some to another one.
bool DataPlane::needs_window() const {
  if (in_place_ && !parts_.empty() && !servers_here_.empty()) return true;
  return std::ranges::any_of(parts_,
                             [&](const auto& each) { return !team_of(each.first).empty(); });
}

bool DataPlane::is_led(index_t worker, index_t server_rank) const {
  if (!in_team(worker) || leader_of(worker) == worker) return false;
  return !in_place_ || host_of_[worker] != host_of_[server_rank];
}

WireConfig DataPlane::wire_of(index_t worker) const {
  WireConfig wire = plan_->wire();
  if (plan_->layout().group_size == 1) return wire;
  const bool leads = leader_of(worker) == worker;
  if (!in_team(worker) || !leads) wire.push = {};
  if (in_team(worker) && !leads) wire.pull = {};
  return wire;
}

int DataPlane::next_rank_to(int server_rank) const {
  const index_t self = world_->rank();
  return is_led(self, server_rank) ? static_cast<int>(leader_of(self)) : server_rank;
}

std::unique_ptr<Team> DataPlane::team(int server_rank) const {
  const index_t self = world_->rank();
  if (!in_team(self) || leader_of(self) != self || by_window_with(server_rank)) return nullptr;
  const auto gradients_in = [&](index_t worker) {
    List<std::span<float>> frames;
    for (const HeldBucket& held : buckets_with(worker, server_rank)) {
      if (held.pushes) frames.push_back(as<float>(plan_->part(gradients_of(worker), held)));
    }
    return frames;
  };
  List<std::span<const std::byte>> pulls;
  const List<HeldBucket> shared = buckets_with(self, server_rank);
  for (auto held = shared.rbegin(); held != shared.rend(); ++held) {
    pulls.push_back(plan_->part(weights_of(self), *held).bytes());
  }
  List<Team::Member> members;
  for (index_t worker : team_of(self)) {
    if (worker == self) continue;
    Team::Member member;
    member.rank = static_cast<int>(worker);
    for (std::span<float> each : gradients_in(worker)) member.gradients.push_back(each);
    if (!member.gradients.empty()) {
      member.complete = std::make_unique<WindowReceiver>(
          line(worker, server_rank, ChannelKind::push), member.gradients.size());
    }
    if (!pulls.empty()) {
      member.weights =
          std::make_unique<WindowSender>(line(worker, server_rank, ChannelKind::pull), pulls,
                                         List<std::span<std::byte>>(pulls.size()));
    }
    members.push_back(std::move(member));
  }
  return std::make_unique<Team>(gradients_in(self), pulls.size(), std::move(members));
}

/// The buckets that the two share, in push order.
List<HeldBucket> DataPlane::buckets_with(index_t worker, index_t server_rank) const {
  const Layout& layout = plan_->layout();
  List<HeldBucket> shared;
  for (const HeldBucket& held : plan_->holding(holder_of(layout.worker(worker))).buckets) {
    const Bucket& bucket = plan_->buckets()[held.bucket];
    if (layout.rank_of_server(bucket.server) == server_rank) shared.push_back(held);
  }
  return shared;
}

index_t DataPlane::lay_out() {
  const Layout& layout = plan_->layout();
  for (index_t server = 0; server < layout.servers; ++server) {
    if (here(layout.rank_of_server(server))) servers_here_.push_back(layout.rank_of_server(server));
  }
  const bool one_copy = in_place_ && servers_here_.size() == layout.servers;
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
      part.gradients = round_up(2 * layout.servers * index_t{sizeof(WindowLine)}, kPageBytes);
      used = part.gradients + round_up(holding.bytes(kArenaDtype), kPageBytes);
      const auto [first, is_first] = first_holder.try_emplace({place.stage, place.shard}, rank);
      const bool has_team = !team_of(rank).empty();
      part.weights_of = one_copy ? first->second : has_team ? leader_of(rank) : rank;
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
  const index_t at = 2 * plan_->layout().server(server_rank) + (kind == ChannelKind::pull ? 1 : 0);
  return reinterpret_cast<WindowLine*>(window_->part(part.host_rank).data())[at];
}

BucketMemory DataPlane::server_memory() const {
  BucketMemory memory;
  for (index_t worker = 0; worker < in_team_.size(); ++worker) {
    memory.led.push_back(is_led(worker, world_->rank()));
  }
  if (!window_ || !in_place_) return memory;
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
  const bool led = kind == ChannelKind::push && is_led(worker, server);
  const int end = led ? next_rank_to(peer) : peer;
  if (!led && !by_window_with(peer)) {
    return traced(std::make_unique<SendChannel>(*world_, peer, kind, frames, ring_depth_), kind,
                  end);
  }
  // What a worker pushes, and what the servers step where it reads, is there already.
  List<std::span<std::byte>> copies(frames.size());
  if (kind == ChannelKind::pull && parts_.at(worker).weights_of == worker) {
    const List<HeldBucket> held = buckets_with(worker, server);
    WEIR_ASSERT(held.size() == frames.size());
    for (index_t frame = 0; frame < frames.size(); ++frame) {  // pulls go in reverse
      const auto place = plan_->part(weights_of(worker), held[held.size() - 1 - frame]).bytes();
      WEIR_ASSERT(frames[frame].size() == place.size());
      if (frames[frame].data() != place.data()) copies[frame] = place;
    }
  }
  return traced(
      std::make_unique<WindowSender>(line(worker, server, kind), frames, std::move(copies)), kind,
      end);
}

std::unique_ptr<FrameReceiver> DataPlane::receiver(int peer, ChannelKind kind,
                                                   const List<std::span<std::byte>>& frames) {
  const index_t worker = kind == ChannelKind::pull ? world_->rank() : peer;
  const index_t server = kind == ChannelKind::pull ? peer : world_->rank();
  const bool led = kind == ChannelKind::pull && is_led(worker, server);
  const int end = led ? next_rank_to(peer) : peer;
  if (!led && !by_window_with(peer)) {
    return traced(std::make_unique<ReceiveChannel>(*world_, peer, kind, frames, ring_depth_), kind,
                  end, frames.size());
  }
  return traced(std::make_unique<WindowReceiver>(line(worker, server, kind), frames.size()), kind,
                end, frames.size());
}

}  // namespace weir
