#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/index.hpp"
#include "common/base/list.hpp"

/// What crosses the tiers beside the raw numbers of the buckets, in the order of a step. A message
/// is a struct whose `fields` names its members once, for writing and for reading, and one row of
/// MessageTable (below); its receivers have a handler for it.
namespace weir {

/// Whom a message is for. A rank may be both, with a port each (control.hpp).
enum class Tier { servers, workers };

/// 1. Worker -> server 0, after the last backward of a step: one from each context of a replica's
/// last stage, from its first shard.
struct Report {
  index_t step = 0;  ///< this replica's
  index_t replica = 0;
  index_t context = 0;
  double loss_sum = 0;  ///< natural logarithm, summed over the loss terms
  /// Loss terms (predicted tokens, or samples of a classifier); a context may have none.
  index_t count = 0;
  double seconds = 0;     ///< time in which this worker computed in the step
  double loss_scale = 1;  ///< Order::loss_scale of the directive that the step began with

  static constexpr const char* kName = "report";
  static void fields(auto& each, auto& m) {
    each(m.step, m.replica, m.context, m.loss_sum, m.count, m.seconds, m.loss_scale);
  }
};

/// 2a. Only where not every replica takes part in every update. Server -> server 0: all that this
/// replica pushes to this server in its step has come.
struct Arrival {
  index_t server = 0;
  index_t replica = 0;

  static constexpr const char* kName = "arrival";
  static void fields(auto& each, auto& m) { each(m.server, m.replica); }
};

/// Server 0 -> other servers: the update has these contributors; add them up.
struct Close {
  index_t update = 0;
  List<index_t> replicas;  ///< ascending

  static constexpr const char* kName = "list of contributors";
  static void fields(auto& each, auto& m) { each(m.update, m.replicas); }
};

/// How long a server has worked in an update, since its first contribution. A rank that is nothing
/// else waits when it is not busy.
struct ServerTime {
  double seconds = 0;
  double busy_seconds = 0;  ///< time in which something moved or was computed

  static void fields(auto& each, auto& m) { each(m.seconds, m.busy_seconds); }
};

/// 2b. Server -> server 0, when its last bucket of an update is summed: sums of squares of the
/// summed gradient, one double per fixed block, in the order of ps::Store::partials.
struct Partials {
  index_t update = 0;
  index_t server = 0;
  List<double> squares;
  ServerTime time = {};

  static constexpr const char* kName = "sums of squares";
  static void fields(auto& each, auto& m) { each(m.update, m.server, m.time, m.squares); }
};

enum class SkipReason : std::uint8_t {
  none,
  not_finite,
  spike,     ///< the clip holds the norm for a fault
  rollback,  ///< several bad steps in a row: the servers go back to the state they have kept
  overflow,  ///< not finite, because the loss scale was too high for fp16
};

/// A replica gets the weights as they stand after a directive, and begins its next step.
struct Release {
  index_t replica = 0;
  index_t step = 0;    ///< steps this replica has done, skipped and dropped ones included
  index_t cursor = 0;  ///< global index of the first new sample of the next step

  static void fields(auto& each, auto& m) { each(m.replica, m.step, m.cursor); }
};

/// Which replicas made an update, and which go on with which samples.
struct Participants {
  /// Whose contributions make this update; empty: no update, the weights stay as they are.
  List<index_t> contributors = {};
  List<index_t> dropped = {};  ///< replicas whose contributions came too late for theirs
  List<Release> released = {};
  /// First samples of the micro-batches that the next step takes up again, before those from its
  /// cursor on.
  List<index_t> again = {};
  /// Micro-batches of the next step that each replica takes, replica 0 the first ones.
  List<index_t> shares = {};

  static void fields(auto& each, auto& m) {
    each(m.contributors, m.dropped, m.released, m.again, m.shares);
  }
};

/// How the servers step their weights in an update.
struct StepRule {
  double factor = 0;  ///< summed gradients times this are what the optimizer sees
  /// Instead of the factor, one for each parameter; mostly none.
  List<double> factors = {};
  double rate = 0;                     ///< learning rate of this step
  SkipReason skip = SkipReason::none;  ///< the step is not made

  static void fields(auto& each, auto& m) { each(m.factor, m.factors, m.rate, m.skip); }
};

/// What server 0 saw in an update: for the log, the metrics and the terminal.
struct Observed {
  double loss = 0;    ///< mean over the loss terms of this update
  index_t count = 0;  ///< loss terms of this update
  double norm = 0;    ///< norm of the mean gradient, before the clip, rounded to float
  /// The same of each layer (layer_groups), with `--norms layers`; else none.
  List<double> layer_norms = {};
  double threshold = 0;    ///< the clip's after this update; 0 for the policy `none`
  double coefficient = 1;  ///< the clip's: the norm times this is what the optimizer sees
  bool clipped = false;
  index_t skipped_count = 0;  ///< updates skipped, or undone by a rollback, since step 0
  index_t dropped_count = 0;  ///< contributions dropped since step 0
  index_t staleness = 0;      ///< updates between a contributor's pull and this one, at most
  List<ServerTime> server_times = {};  ///< each server's, as of its newest partials

  static void fields(auto& each, auto& m) {
    each(m.loss, m.count, m.norm, m.layer_norms, m.threshold, m.coefficient, m.clipped,
         m.skipped_count, m.dropped_count, m.staleness, m.server_times);
  }
};

/// What the job does after an update.
struct Order {
  /// What the loss of the next step is multiplied by before backward: a power of two. Workers take
  /// it out of the gradients again before they push them.
  double loss_scale = 1;
  bool keep = false;        ///< a rollback goes back to the state after this update
  bool checkpoint = false;  ///< the servers save after applying this update
  bool stop = false;        ///< the job ends after this update (and its checkpoint)

  static void fields(auto& each, auto& m) { each(m.loss_scale, m.keep, m.checkpoint, m.stop); }
};

/// 2c. Server 0 -> all servers and the workers of the replicas that it releases: what was decided.
/// Usually it closes an update; it may also do no more than release a replica whose contribution
/// came too late.
struct Directive {
  index_t update = 0;  ///< the newest that is closed
  index_t step = 0;    ///< the step that the update belongs to (skipped ones count)
  index_t cursor = 0;  ///< global index of the first new sample of the step after it
  Participants replicas = {};
  StepRule rule = {};
  Observed observed = {};
  Order order = {};

  static constexpr const char* kName = "directive";
  static void fields(auto& each, auto& m) {
    each(m.update, m.step, m.cursor, m.replicas, m.rule, m.observed, m.order);
  }
};

/// 2d. Only for optimizers whose steps are scaled by trust ratios. Server -> server 0, when it has
/// made the directions of an update: sums of squares of its weights and of its directions, as in
/// Partials.
struct DirectionPartials {
  index_t update = 0;
  index_t server = 0;
  List<double> weights;
  List<double> directions;

  static constexpr const char* kName = "sums of squares of directions";
  static void fields(auto& each, auto& m) { each(m.update, m.server, m.weights, m.directions); }
};

/// Server 0 -> other servers, upon all of these: by how much the rate is multiplied.
struct TrustRatios {
  index_t update = 0;
  List<double> ratios;  ///< one a parameter

  static constexpr const char* kName = "trust ratios";
  static void fields(auto& each, auto& m) { each(m.update, m.ratios); }
};

/// A checkpoint, between the servers, beside the steps. Server 0 -> other servers: the file has
/// room for all; write your part.
struct SaveBegin {
  index_t step = 0;
  List<index_t> offsets;  ///< where the records are in the file, in the order of ps::Snapshot

  static constexpr const char* kName = "begin of a checkpoint";
  static void fields(auto& each, auto& m) { each(m.step, m.offsets); }
};

/// CRC-32C of a range of elements of a record.
struct SavedRange {
  index_t record = 0;
  index_t begin = 0;
  index_t end = 0;
  index_t crc = 0;

  static void fields(auto& each, auto& m) { each(m.record, m.begin, m.end, m.crc); }
};

/// Server -> server 0: its part is on the disk, or why not.
struct SavePrepared {
  index_t step = 0;
  index_t server = 0;
  std::string error;  ///< empty: all is well
  List<SavedRange> ranges;

  static constexpr const char* kName = "part of a checkpoint";
  static void fields(auto& each, auto& m) { each(m.step, m.server, m.error, m.ranges); }
};

/// Server 0 -> other servers: the checkpoint counts from now on, or was given up.
struct SaveEnd {
  index_t step = 0;
  std::string error;  ///< empty: committed

  static constexpr const char* kName = "end of a checkpoint";
  static void fields(auto& each, auto& m) { each(m.step, m.error); }
};

/// Any rank -> server 0: the job is asked to stop.
struct Stop {
  static constexpr const char* kName = "request to stop";
  static void fields(auto& each, auto&) { each(); }
};

/// Server 0 -> all workers: everything is committed.
struct Finished {
  static constexpr const char* kName = "end of the job";
  static void fields(auto& each, auto&) { each(); }
};

/// Whom a message is for.
enum class Receiver {
  server_0,
  other_servers,         ///< all but server 0, which sends it
  servers_and_released,  ///< the same, and the workers of the replicas that a directive releases
  workers,               ///< all of them
};

/// What a control message is on the wire: its number in MessageTable.
enum class MessageKind : std::uint16_t {};

template <class MessageContent, std::uint16_t number, Receiver to>
struct MessageRow {
  using Content = MessageContent;
  static constexpr MessageKind kKind{number};
  static constexpr Receiver kReceiver = to;
};

template <class... Rows>
struct MessageRows : Rows... {
  using Message = std::variant<typename Rows::Content...>;
};

/// All control messages: content, number, receiver.
using MessageTable = MessageRows<                              //
    MessageRow<Report, 1, Receiver::server_0>,                 //
    MessageRow<Partials, 2, Receiver::server_0>,               //
    MessageRow<Directive, 3, Receiver::servers_and_released>,  //
    MessageRow<Finished, 4, Receiver::workers>,                //
    MessageRow<SaveBegin, 5, Receiver::other_servers>,         //
    MessageRow<SavePrepared, 6, Receiver::server_0>,           //
    MessageRow<SaveEnd, 7, Receiver::other_servers>,           //
    MessageRow<Arrival, 8, Receiver::server_0>,                //
    MessageRow<Close, 9, Receiver::other_servers>,             //
    MessageRow<DirectionPartials, 10, Receiver::server_0>,     //
    MessageRow<TrustRatios, 11, Receiver::other_servers>,      //
    MessageRow<Stop, 12, Receiver::server_0>>;

/// Any one of them.
using Message = MessageTable::Message;

/// The row of a content: a MessageTable is each of its rows.
template <class Content, std::uint16_t number, Receiver to>
MessageRow<Content, number, to> row_of(const MessageRow<Content, number, to>&);
template <class Content>
inline constexpr MessageKind kKindOf =
    decltype(row_of<Content>(std::declval<MessageTable>()))::kKind;
template <class Content>
inline constexpr Receiver kReceiverOf =
    decltype(row_of<Content>(std::declval<MessageTable>()))::kReceiver;

constexpr bool comes_to(Tier tier, Receiver receiver) {
  return receiver == Receiver::servers_and_released ||
         (receiver == Receiver::workers) == (tier == Tier::workers);
}

/// The bytes of a control message: scalars as they are, vectors after their count; the same on
/// every machine.
std::vector<std::byte> to_bytes(const Message& message);

/// The message that these bytes hold. Throws Error if they are no such message: an unknown kind,
/// too short, too long, a count of more elements than there are bytes (checked before anything is
/// allocated), a bool or an enum out of range.
Message from_bytes(MessageKind kind, std::span<const std::byte> bytes);
template <class Content>
Content from_bytes(std::span<const std::byte> bytes) {
  return std::get<Content>(from_bytes(kKindOf<Content>, bytes));
}

/// Calls `handle(content)` for a message that has come to a tier. Throws Error if messages of its
/// kind do not go there.
template <Tier tier, class Handle>
void deliver(const Message& message, const Handle& handle) {
  const auto take = [&]<class Content>(const Content& content) {
    if constexpr (comes_to(tier, kReceiverOf<Content>)) {
      handle(content);
    } else {
      throw Error(text("a ", tier == Tier::servers ? "server" : "worker",
                       " received a message for ", tier == Tier::servers ? "workers" : "servers",
                       ": a ", Content::kName, "; are all ranks the same build?"));
    }
  };
  std::visit(take, message);
}

}  // namespace weir
