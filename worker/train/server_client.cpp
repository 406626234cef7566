#include "worker/train/server_client.hpp"

#include <algorithm>
#include <optional>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/wait.hpp"
#include "common/job/data_plane.hpp"
#include "common/job/team.hpp"
#include "common/net/channel.hpp"
#include "common/net/control.hpp"
#include "worker/train/bucket_frames.hpp"

namespace weir::worker {
namespace {

/// The traffic with one server: buckets of this holder that live there.
struct Peer {
  int rank = 0;                     ///< the server's, or the leader's
  bool is_led = false;              ///< whether the leader is at the other end
  std::vector<std::size_t> pushed;  ///< indices into Holding::buckets, in push order
  std::vector<std::size_t> pulled;  ///< their order is that of pulls
  std::size_t offered = 0;          ///< so far in this update, from `pushed`
  std::unique_ptr<FrameSender> push;
  std::unique_ptr<FrameReceiver> pull;
  std::unique_ptr<Team> team;  ///< whose gradients go with this worker's, if it leads
  // Residuals of `pushed`, where the push wire keeps them.
  std::optional<ReceiveChannel> residuals_in;  ///< once, where training begins
  std::optional<SendChannel> residuals_out;    ///< for each checkpoint
  std::size_t residuals_missing = 0;           ///< to begin with
  // Where the pull wire sends differences: what those of `pulled` add to.
  std::optional<ReceiveChannel> weights_in;  ///< once, before the first pull
  std::size_t weights_missing = 0;
};

}  // namespace

struct ServerClient::State {
  State(const Comm& world, const WorkerPlace& place, const BucketPlan& plan, DataPlane& plane,
        OwnServer own_server, std::function<bool()> stop_requested)
      : plan(plan),
        holding(plan.holding(holder_of(place))),
        replica(place.replica),
        first_server(static_cast<int>(plan.layout().rank_of_server(0))),
        weights(plane.mutable_weights()),
        gradients(plane.gradients()),
        wire(plane.wire_of(world.rank())),
        frames(plan, wire, holding, weights, gradients),
        arrived(holding.buckets.size(), 0),
        stale(holding.buckets.size(), false),
        own_server(std::move(own_server)),
        stop_requested(std::move(stop_requested)),
        control(world, Tier::workers) {
    for (index_t server = 0; server < plan.layout().servers; ++server) {
      add_peer(world, plane, server);
    }
  }

  void add_peer(const Comm& world, DataPlane& plane, index_t server) {
    const int rank = static_cast<int>(plan.layout().rank_of_server(server));
    Peer peer;
    peer.rank = plane.next_rank_to(rank);
    peer.is_led = peer.rank != rank;
    std::vector<std::span<const std::byte>> push_frames;
    std::vector<std::span<std::byte>> pull_frames;
    std::vector<std::span<float>> residuals;
    std::vector<std::span<std::byte>> first_weights;
    for (index_t index = 0; index < holding.buckets.size(); ++index) {
      const HeldBucket& held = holding.buckets[index];
      const Bucket& bucket = plan.buckets()[held.bucket];
      if (bucket.server != server) continue;
      if (held.pushes) {
        peer.pushed.push_back(index);
        push_frames.push_back(frames.pushed(index));
        if (!peer.is_led) pushed_bytes += std::ssize(push_frames.back());
        if (wire.push.keeps_residual()) residuals.push_back(frames.residual(index));
      }
      peer.pulled.insert(peer.pulled.begin(), index);
      pull_frames.insert(pull_frames.begin(), frames.pulled(index));
      if (wire.pull.keeps_residual()) {
        first_weights.insert(first_weights.begin(), plan.part(weights, held).bytes());
      }
      if (!peer.is_led) pulled_bytes += std::ssize(pull_frames.front());
    }
    if (!push_frames.empty()) peer.push = plane.sender(rank, ChannelKind::push, push_frames);
    if (!pull_frames.empty()) peer.pull = plane.receiver(rank, ChannelKind::pull, pull_frames);
    peer.team = plane.team(rank);
    if (!residuals.empty()) {
      const std::vector<std::span<const float>> read_only(residuals.begin(), residuals.end());
      peer.residuals_in.emplace(world, rank, ChannelKind::residual, frames_of(residuals));
      peer.residuals_out.emplace(world, rank, ChannelKind::residual, frames_of(read_only));
      peer.residuals_in->open_round();
      peer.residuals_missing = residuals.size();
    }
    if (!first_weights.empty()) {
      peer.weights_in.emplace(world, rank, ChannelKind::weights, first_weights);
      peer.weights_in->open_round();
      peer.weights_missing = first_weights.size();
    }
    peers.push_back(std::move(peer));
  }

  /// True if anything moved.
  bool move() {
    bool moved = own_server.move();
    if (!stop_passed_on && !finished && stop_requested()) {
      stop_passed_on = true;
      send(Stop{});
    }
    for (Peer& peer : peers) {
      if (peer.team) {
        for (index_t frame : peer.team->progress()) {
          push(peer, frame);
          moved = true;
        }
      }
      if (peer.push && !peer.push->idle()) moved |= peer.push->progress();
      if (peer.residuals_out && !peer.residuals_out->idle()) {
        moved |= peer.residuals_out->progress();
      }
      if (peer.residuals_missing > 0) {
        const std::size_t arrived = peer.residuals_in->progress().size();
        peer.residuals_missing -= arrived;
        moved |= arrived > 0;
      }
      if (peer.weights_missing > 0) {
        const std::size_t arrived = peer.weights_in->progress().size();
        peer.weights_missing -= arrived;
        moved |= arrived > 0;
      }
      if (!peer.pull || peer.weights_missing > 0) continue;
      for (index_t frame : peer.pull->progress()) {
        const std::size_t index = peer.pulled[frame];
        frames.read(index);
        ++arrived[index];
        if (peer.team) peer.team->arrived(frame);
        moved = true;
      }
    }
    control.poll([&](int, MessageKind kind, std::span<const std::byte> bytes) {
      moved = true;
      deliver<Tier::workers>(from_bytes(kind, bytes), [&](const auto& content) { take(content); });
    });
    return moved;
  }

  void take(const Directive& directive) {
    WEIR_ASSERT(!decided);
    decided = directive;
  }
  void take(const Finished&) { finished = true; }

  template <class Content>
  void send(const Content& content) {
    control.send(first_server, Tier::servers, kKindOf<Content>, to_bytes(content));
  }

  void push(Peer& peer, index_t frame) {
    frames.write(peer.pushed[static_cast<std::size_t>(frame)]);
    peer.push->offer(frame);
  }

  void zero_gradients(std::size_t held_index) {
    std::ranges::fill(plan.part(gradients, holding.buckets[held_index]).bytes(), std::byte{0});
    stale[held_index] = false;
  }

  static bool pushes_ended(const Peer& peer) {
    return (!peer.push || peer.push->idle()) && (!peer.residuals_out || peer.residuals_out->idle());
  }

  /// They stay as they are until all have left: begin_update() waits for that.
  void push_residuals() {
    for (Peer& peer : peers) {
      for (std::size_t frame = 0; peer.residuals_out && frame < peer.pushed.size(); ++frame) {
        peer.residuals_out->offer(frame);
      }
    }
  }

  template <class Done>
  void wait(const Need& need, const Done& done) {
    if (done()) return;
    const Waiting waiting(need);
    const double begin = seconds_now();
    wait_until(done, [&] { return move(); });
    waited_seconds += seconds_now() - begin;
  }

  void await_pushes() {
    for (const Peer& peer : peers) {
      wait({.what = "its gradients to leave", .peer = peer.rank, .of_server = true},
           [&] { return pushes_ended(peer); });
    }
  }

  /// Waits until the newest weights of a held bucket are here.
  void await_weights(std::size_t held_index) {
    if (arrived[held_index] == round) return;
    const index_t bucket = holding.buckets[held_index].bucket;
    const auto server = static_cast<std::size_t>(plan.buckets()[bucket].server);
    wait({"weights", peers[server].rank, bucket, !peers[server].is_led},
         [&] { return arrived[held_index] == round; });
  }

  /// Waits until the team's gradients are on their way, and nobody reads the weights any more.
  void await_team(const Team& team) {
    while (const std::optional<int> member = team.awaited()) {
      wait({"gradients of its group", *member}, [&] { return team.awaited() != member; });
    }
    while (const std::optional<int> member = team.reader()) {
      wait({"a reader of its weights", *member}, [&] { return team.reader() != member; });
    }
  }

  Directive next_directive() {
    // This worker has read its weights for the last time before they change.
    for (Peer& peer : peers) {
      if (peer.team) await_team(*peer.team);
      if (peer.pull) peer.pull->open_round();
    }
    ++round;
    wait({.what = "the directive", .peer = first_server, .of_server = true},
         [&] { return decided.has_value(); });
    Directive directive = *std::exchange(decided, std::nullopt);
    const auto own = std::ranges::find(directive.replicas.released, replica, &Release::replica);
    if (own == directive.replicas.released.end()) {
      throw Error(text("replica ", replica, " received a directive that releases others"));
    }
    directive.step = own->step;
    directive.cursor = own->cursor;
    return directive;
  }

  const BucketPlan& plan;
  const Holding& holding;
  index_t replica;
  int first_server;
  Vector weights;
  Vector gradients;
  const WireConfig wire;
  BucketFrames frames;
  std::vector<index_t> arrived;  ///< pulls of each held bucket so far
  std::vector<bool> stale;       ///< the gradients of each held bucket are of the update before
  index_t round = 0;             ///< pulls of each that were opened
  std::vector<Peer> peers;
  OwnServer own_server;
  std::function<bool()> stop_requested;
  bool stop_passed_on = false;
  ControlPort control;
  std::optional<Directive> decided;
  bool finished = false;
  double waited_seconds = 0;
  index_t pushed_bytes = 0;
  index_t pulled_bytes = 0;
};

ServerClient::ServerClient(const Comm& world, const WorkerPlace& place, const BucketPlan& plan,
                           DataPlane& plane, OwnServer own_server,
                           std::function<bool()> stop_requested)
    : state_(std::make_unique<State>(world, place, plan, plane, std::move(own_server),
                                     std::move(stop_requested))) {}
ServerClient::~ServerClient() = default;

ConstVector ServerClient::weights() const { return state_->weights; }
Vector ServerClient::gradients() { return state_->gradients; }

Directive ServerClient::start() {
  const Directive directive = state_->next_directive();
  for (const Peer& peer : state_->peers) {
    state_->wait({"residuals", peer.rank}, [&] { return peer.residuals_missing == 0; });
  }
  return directive;
}

void ServerClient::begin_update() {
  // The directive has said that all arrived; the local ends of the transfers may still be open.
  state_->await_pushes();
  for (Peer& peer : state_->peers) peer.offered = 0;
  // Not before their new weights are here: until then a server may read them in the memory of both.
  state_->stale.assign(state_->stale.size(), true);
}

void ServerClient::ready(index_t unit) {
  for (Peer& peer : state_->peers) {
    while (peer.offered < peer.pushed.size() &&
           state_->holding.buckets[peer.pushed[peer.offered]].lowest_unit >= unit) {
      if (peer.team) {
        peer.team->offer();
      } else {
        state_->push(peer, static_cast<index_t>(peer.offered));
      }
      ++peer.offered;
    }
  }
}

bool ServerClient::progress() { return state_->move(); }

void ServerClient::report(const Report& report) { state_->send(report); }

Directive ServerClient::directive() {
  const Directive directive = state_->next_directive();
  if (directive.order.checkpoint) state_->push_residuals();
  return directive;
}

void ServerClient::await(index_t unit) {
  const auto holds = [&](std::size_t index) {
    const HeldBucket& held = state_->holding.buckets[index];
    return held.lowest_unit <= unit && unit <= held.highest_unit;
  };
  const std::size_t count = state_->arrived.size();
  for (std::size_t index = 0; index < count; ++index) {
    if (holds(index)) state_->await_weights(index);
  }
  for (std::size_t index = 0; index < count; ++index) {
    if (holds(index) && state_->stale[index]) state_->zero_gradients(index);
  }
}

void ServerClient::await_all() {
  for (std::size_t index = 0; index < state_->arrived.size(); ++index) {
    state_->await_weights(index);
  }
}

void ServerClient::finish() {
  state_->await_pushes();
  state_->wait({"the end of the job", state_->first_server},
               [&] { return state_->finished && state_->own_server.finished(); });
}

double ServerClient::waited_seconds() const { return state_->waited_seconds; }
index_t ServerClient::pushed_bytes() const { return state_->pushed_bytes; }
index_t ServerClient::pulled_bytes() const { return state_->pulled_bytes; }

}  // namespace weir::worker
