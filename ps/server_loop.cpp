#include "ps/server_loop.hpp"

#include <algorithm>
#include <deque>
#include <optional>
#include <variant>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/list.hpp"
#include "common/base/machine.hpp"
#include "common/base/trace.hpp"
#include "common/base/wait.hpp"
#include "common/job/data_plane.hpp"
#include "common/net/channel.hpp"
#include "common/net/control.hpp"
#include "ps/server.hpp"

namespace weir::ps {
namespace {

/// The traffic with one worker.
struct Peer {
  int rank = 0;
  index_t replica = 0;
  List<index_t> pushed;         ///< buckets, by frame
  List<index_t> contributors;   ///< this worker's number among each bucket's contributors
  List<index_t> pulled;         ///< buckets, by frame
  List<bool> ready;             ///< pulls that may leave when those before them have left
  index_t missing = 0;          ///< pushes that were opened and have not come
  index_t offered = 0;          ///< how many pulls of this release were offered
  std::deque<index_t> leaving;  ///< frames of pulls that were offered and not yet sent
  std::unique_ptr<FrameReceiver> push;
  std::unique_ptr<FrameSender> pull;
  // The residuals of `pushed`, if the push wire keeps some.
  std::optional<SendChannel> residuals_out;    ///< used once, when training begins
  std::optional<ReceiveChannel> residuals_in;  ///< used for each checkpoint
  /// If the pull wire sends differences: what those of `pulled` add to. Used once, when training
  /// begins.
  std::optional<SendChannel> weights_out;
};

/// A reader of a bucket, and the bucket's frames in the traffic with it.
struct Reader {
  index_t peer = 0;
  index_t pulled = 0;
  std::optional<index_t> pushed;  ///< if it contributes, too
};

/// How often the record of what this rank does hears what its server lacks, while nothing moves.
constexpr double kTellSeconds = 0.2;

bool releases(const Directive& directive, index_t replica) {
  return std::ranges::find(directive.replicas.released, replica, &Release::replica) !=
         directive.replicas.released.end();
}

}  // namespace

struct ServerLoop::State {
  State(const Comm& world, const BucketPlan& plan, index_t index, Server& server, DataPlane& plane,
        std::function<bool()> stop_requested)
      : layout(plan.layout()),
        index(index),
        server(server),
        stop_requested(std::move(stop_requested)),
        control(world, Tier::servers),
        readers(plan.buckets().size()) {
    for (index_t rank = 0; rank < layout.worker_count(); ++rank) {
      add_peer(world, plan, plane, rank);
    }
  }

  void add_peer(const Comm& world, const BucketPlan& plan, DataPlane& plane, index_t rank) {
    const WorkerPlace place = layout.worker(rank);
    const Holder holder = holder_of(place);
    Peer peer;
    peer.rank = static_cast<int>(rank);
    peer.replica = place.replica;
    const bool led = plane.is_led(rank, layout.rank_of_server(index));
    const bool keeps_residual = plane.wire_of(rank).push.keeps_residual();
    List<std::span<std::byte>> push_frames;
    List<std::span<const std::byte>> pull_frames;
    List<std::span<float>> residuals;
    List<std::span<const float>> sent_weights;
    for (const HeldBucket& held : plan.holding(holder).buckets) {
      const Bucket& bucket = plan.buckets()[held.bucket];
      if (bucket.server != index || led) continue;
      if (held.pushes) {
        const auto& all = bucket.contributors;
        const index_t position = std::ranges::find(all, holder) - all.begin();
        peer.pushed.push_back(held.bucket);
        peer.contributors.push_back(place.replica * all.size() + position);
        push_frames.push_back(server.contribution_frame(held.bucket, peer.contributors.back()));
        if (keeps_residual) {
          residuals.push_back(server.residual(held.bucket, peer.contributors.back()));
        }
      }
      peer.pulled.insert(peer.pulled.begin(), held.bucket);
      pull_frames.insert(pull_frames.begin(), server.weight_frame(held.bucket));
      if (plan.wire().pull.keeps_residual()) {
        sent_weights.insert(sent_weights.begin(), server.sent_weights(held.bucket));
      }
    }
    peer.ready.resize(peer.pulled.size());
    for (index_t frame = 0; frame < peer.pulled.size(); ++frame) {
      readers[peer.pulled[frame]].push_back(
          {.peer = peers.size(), .pulled = frame, .pushed = std::nullopt});
    }
    for (index_t frame = 0; frame < peer.pushed.size(); ++frame) {
      readers[peer.pushed[frame]].back().pushed = frame;
    }
    if (!push_frames.empty()) {
      peer.push = plane.receiver(peer.rank, ChannelKind::push, push_frames);
    }
    if (!pull_frames.empty()) {
      peer.pull = plane.sender(peer.rank, ChannelKind::pull, pull_frames);
    }
    if (!residuals.empty()) {
      const List<std::span<const float>> read_only(residuals.begin(), residuals.end());
      peer.residuals_out.emplace(world, peer.rank, ChannelKind::residual, frames_of(read_only));
      peer.residuals_in.emplace(world, peer.rank, ChannelKind::residual, frames_of(residuals));
    }
    if (!sent_weights.empty()) {
      peer.weights_out.emplace(world, peer.rank, ChannelKind::weights, frames_of(sent_weights));
    }
    peers.push_back(std::move(peer));
  }

  /// The weights of a bucket may go to its readers in the replicas that the directive releases,
  /// and their next contributions may come.
  void stepped(index_t bucket) {
    const Directive& directive = server.directive();
    for (const Reader& reader : readers[bucket]) {
      Peer& peer = peers[reader.peer];
      if (!releases(directive, peer.replica)) continue;
      peer.ready[reader.pulled] = true;
      while (peer.offered < peer.ready.size() && peer.ready[peer.offered]) {
        peer.leaving.push_back(peer.offered);
        peer.pull->offer(peer.offered++);
      }
      if (peer.offered == peer.ready.size()) {
        peer.ready.assign(peer.ready.size(), false);
        peer.offered = 0;
      }
      if (reader.pushed && !directive.order.stop) {
        peer.push->open(*reader.pushed);
        ++peer.missing;
      }
    }
  }

  /// Tells the server which pulls have left.
  void take_leave(Peer& peer) {
    while (!peer.leaving.empty() && peer.pull->sent(peer.leaving.front())) {
      server.on_sent(peer.pulled[peer.leaving.front()]);
      peer.leaving.pop_front();
    }
  }

  /// Sends to the receivers in the table of messages, except this server.
  template <class Content>
  void send(const Content& content) {
    const std::vector<std::byte> bytes = to_bytes(content);
    const auto to_server = [&](index_t other) {
      control.send(rank_of(other), Tier::servers, kKindOf<Content>, bytes);
    };
    if constexpr (kReceiverOf<Content> == Receiver::server_0) return to_server(0);
    if constexpr (comes_to(Tier::servers, kReceiverOf<Content>)) {
      for (index_t other = 0; other < layout.servers; ++other) {
        if (other != index) to_server(other);
      }
    }
    if constexpr (comes_to(Tier::workers, kReceiverOf<Content>)) send_to_workers(content, bytes);
  }
  template <class Content>
  void send_to_workers(const Content& content, std::span<const std::byte> bytes) {
    for (const Peer& peer : peers) {
      if constexpr (kReceiverOf<Content> == Receiver::servers_and_released) {
        if (!releases(content, peer.replica)) continue;
      }
      control.send(peer.rank, Tier::workers, kKindOf<Content>, bytes);
    }
  }
  void send(const BucketStepped& bucket) { stepped(bucket.bucket); }
  void send(const ResidualsDue&) {
    for (Peer& peer : peers) {
      if (peer.residuals_in) peer.residuals_in->open_round();
    }
  }

  /// True if anything moved.
  bool move() {
    bool moved = control.poll([&](int, MessageKind kind, std::span<const std::byte> bytes) {
      deliver<Tier::servers>(from_bytes(kind, bytes),
                             [&](const auto& content) { server.on(content); });
    });
    for (Peer& peer : peers) {
      if (peer.push) {
        for (index_t frame : peer.push->progress()) {
          server.on_contribution(peer.pushed[frame], peer.contributors[frame]);
          --peer.missing;
          moved = true;
        }
      }
      if (peer.pull && !peer.pull->idle()) moved |= peer.pull->progress();
      if (peer.pull) take_leave(peer);
      for (auto* const out : {&peer.residuals_out, &peer.weights_out}) {
        if (*out && !(*out)->idle()) moved |= (*out)->progress();
      }
      if (peer.residuals_in) {
        for (std::size_t arrived = peer.residuals_in->progress().size(); arrived > 0; --arrived) {
          server.on_residual();
          moved = true;
        }
      }
    }
    if (may_work() && server.poll()) moved = true;
    while (const std::optional<Output> output = server.next_output()) {
      std::visit([&](const auto& each) { send(each); }, *output);
      moved = true;
    }
    if (!stop_seen && !server.directive().order.stop && stop_requested()) {
      stop_seen = true;
      if (index == 0) {
        server.on(Stop{});
      } else {
        send(Stop{});
      }
    }
    if (!done && server.done()) {
      done = true;
      if (index == 0) send(Finished{});
    }
    return moved;
  }

  /// What this server lacks, for the record of what the rank does.
  Need need() const {
    const auto of_one = [&](const char* what, const auto& is_meant) -> Need {
      const auto found = std::ranges::find_if(peers, is_meant);
      if (found == peers.end()) return {};
      const bool alone = std::find_if(found + 1, peers.end(), is_meant) == peers.end();
      return {what, alone ? found->rank : kSeveralRanks};
    };
    if (server.applying()) {
      const Need readers = of_one("readers of its weights", [](const Peer& peer) {
        return peer.pull && peer.pull->read_by_peer();
      });
      if (readers.what != nullptr) return readers;
      if (server.saving()) return need_of_save();
    }
    const Need pushes =
        of_one("gradients", [](const Peer& peer) { return peer.push && peer.missing > 0; });
    if (pushes.what != nullptr) return pushes;
    if (server.saving()) return need_of_save();
    if (index > 0) return of_server("the directive", rank_of(0));
    return of_server("what all ranks have found", layout.servers == 2 ? rank_of(1) : kSeveralRanks);
  }
  Need need_of_save() const {
    const List<index_t> awaited = server.save_awaits();
    if (awaited.empty()) return {"its own save", kNobody};
    return of_server("the save", awaited.size() == 1 ? rank_of(awaited[0]) : kSeveralRanks);
  }
  static Need of_server(const char* what, int rank) {
    return {.what = what, .peer = rank, .of_server = true};
  }
  int rank_of(index_t server_index) const {
    return static_cast<int>(layout.rank_of_server(server_index));
  }

  /// Weights may be stepped only if no worker still reads them where they are.
  bool may_work() {
    if (!server.applying() || readers_done_with == server.directive().update) return true;
    if (std::ranges::any_of(
            peers, [](const Peer& peer) { return peer.pull && peer.pull->read_by_peer(); })) {
      return false;
    }
    readers_done_with = server.directive().update;
    return true;
  }

  bool finished() const {
    return done && control.idle() && std::ranges::all_of(peers, [](const Peer& peer) {
             return (!peer.pull || peer.pull->idle()) &&
                    (!peer.residuals_out || peer.residuals_out->idle()) &&
                    (!peer.weights_out || peer.weights_out->idle());
           });
  }

  const Layout layout;
  const index_t index;
  Server& server;
  std::function<bool()> stop_requested;
  bool stop_seen = false;
  bool done = false;  ///< the server is done and has said so
  double need_told_at = 0;
  index_t readers_done_with = -1;  ///< the update before whose step all were found done reading
  ControlPort control;
  List<Peer> peers;
  List<List<Reader>> readers;  ///< readers of each bucket of the plan
};

ServerLoop::ServerLoop(const Comm& world, const BucketPlan& plan, index_t server_index,
                       Server& server, DataPlane& plane, std::function<bool()> stop_requested)
    : state_(std::make_unique<State>(world, plan, server_index, server, plane,
                                     std::move(stop_requested))) {}
ServerLoop::~ServerLoop() = default;

void ServerLoop::run() {
  begin();
  const Waiting waiting("what its server lacks");
  wait_until([&] { return finished(); },
             [&] {
               const bool moved = move();
               if (moved) note_step(state_->server.step());
               return moved;
             });
}

void ServerLoop::begin() {
  State& state = *state_;
  if (state.index == 0) {
    const Directive start = state.server.start();
    state.send_to_workers(start, to_bytes(start));
  }
  for (index_t at = state.server.buckets().size(); at-- > 0;) {
    state.stepped(state.server.buckets()[at]);
  }
  for (Peer& peer : state.peers) {
    for (index_t frame = 0; peer.residuals_out && frame < peer.pushed.size(); ++frame) {
      peer.residuals_out->offer(frame);
    }
    for (index_t frame = 0; peer.weights_out && frame < peer.pulled.size(); ++frame) {
      peer.weights_out->offer(frame);
    }
  }
}

bool ServerLoop::move() {
  const double begin = seconds_now();
  const bool moved = state_->move();
  if (moved) {
    const double end = seconds_now();
    state_->server.add_busy(end - begin);
    record_span_until({.kind = SpanKind::server, .what = "serve", .begin_s = begin}, end);
  } else if (begin - state_->need_told_at > kTellSeconds) {
    state_->need_told_at = begin;
    note_server_need(state_->need());
  }
  return moved;
}

bool ServerLoop::finished() const { return state_->finished(); }

}  // namespace weir::ps
