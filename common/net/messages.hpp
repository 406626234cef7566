#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/index.hpp"

/// What crosses the tiers beside the raw floats of the buckets, in the order of a step.
namespace weir {

/// 1. Worker -> server 0, after the last backward of a step: one from each context of a replica's
/// last stage, from its first shard.
struct Report {
  index_t step = 0;  ///< of this replica
  index_t replica = 0;
  index_t context = 0;
  double loss_sum = 0;  ///< natural logarithm, summed over the loss terms
  /// Loss terms (predicted tokens, or samples of a classifier); a context may have none.
  index_t count = 0;
  double seconds = 0;  ///< that this worker computed in the step
};

/// 2a. Only where not every replica takes part in every update. Server -> server 0: all that this
/// replica pushes to this server in its step has come.
struct Arrival {
  index_t server = 0;
  index_t replica = 0;
};

/// Server 0 -> other servers: the update has these contributors; add them up.
struct Close {
  index_t update = 0;
  std::vector<index_t> replicas;  ///< ascending
};

/// Of a server, since its first contribution. A rank that is nothing else waits when it is not
/// busy.
struct ServerTime {
  double seconds = 0;
  double busy_seconds = 0;  ///< that something moved or was computed
};

/// 2b. Server -> server 0, when its last bucket of an update is summed: sums of squares of the
/// summed gradient, one double per fixed block, in the order of ps::Store::partials.
struct Partials {
  index_t update = 0;
  index_t server = 0;
  std::vector<double> squares;
  ServerTime time = {};
};

enum class SkipReason : std::uint8_t {
  none,
  not_finite,
  spike,     ///< the clip holds the norm for a fault
  rollback,  ///< several bad steps in a row: the servers go back to the state they have kept
};

/// A replica gets the weights as they stand after a directive, and begins its next step.
struct Release {
  index_t replica = 0;
  index_t step = 0;    ///< steps this replica has done, skipped and dropped ones included
  index_t cursor = 0;  ///< global index of the first new sample of the next step
};

/// 2c. Server 0 -> all servers and the workers of the replicas that it releases: what was decided.
/// Mostly it closes an update; it may also only let go a replica whose contribution came too late.
struct Directive {
  index_t update = 0;  ///< the newest that is closed
  /// Whose contributions make this update; empty: no update, the weights stay as they are.
  std::vector<index_t> contributors = {};
  std::vector<index_t> dropped = {};  ///< replicas whose contributions came too late for theirs
  std::vector<Release> released = {};
  /// First samples of the micro-batches that the next step takes up again, before those from its
  /// cursor on.
  std::vector<index_t> again = {};
  /// Micro-batches of the next step that each replica takes, replica 0 the first ones.
  std::vector<index_t> shares = {};
  index_t step = 0;    ///< that the update belongs to (a skipped one counts)
  index_t cursor = 0;  ///< global index of the first new sample of the step after it
  double factor = 0;   ///< summed gradients times this are what the optimizer sees
  /// Instead of the factor, one for each parameter; mostly none.
  std::vector<double> factors = {};
  double rate = 0;    ///< learning rate of this step
  double loss = 0;    ///< mean over the loss terms of this update
  index_t count = 0;  ///< loss terms of this update
  double norm = 0;    ///< of the mean gradient, before the clip, rounded to float
  /// With `--norms layers` that of each layer (layer_groups), the same way; else none.
  std::vector<double> layer_norms = {};
  double threshold = 0;    ///< of the clip after this update; 0 for the policy `none`
  double coefficient = 1;  ///< of the clip: the norm times this is what the optimizer sees
  bool clipped = false;
  SkipReason skip = SkipReason::none;
  index_t skipped_count = 0;  ///< updates skipped, or undone by a rollback, since step 0
  index_t dropped_count = 0;  ///< contributions dropped since step 0
  index_t staleness = 0;      ///< updates between a contributor's pull and this one, at most
  std::vector<ServerTime> server_times = {};  ///< by server, as of its newest partials
  bool keep = false;        ///< a rollback goes back to the state after this update
  bool checkpoint = false;  ///< the servers save after applying this update
  bool stop = false;        ///< the job ends after this update (and its checkpoint)
};

/// 2c. Only of optimizers whose steps are scaled by trust ratios. Server -> server 0, when it has
/// made the directions of an update: sums of squares of its weights and of its directions, as in
/// Partials.
struct DirectionPartials {
  index_t update = 0;
  index_t server = 0;
  std::vector<double> weights;
  std::vector<double> directions;
};

/// Server 0 -> other servers, upon all of these: by how much the rate is multiplied.
struct TrustRatios {
  index_t update = 0;
  std::vector<double> ratios;  ///< by parameter
};

/// A checkpoint, between the servers, beside the steps. Server 0 -> other servers: the file has
/// room for all; write your part.
struct SaveBegin {
  index_t step = 0;
  std::vector<index_t> offsets;  ///< of the records in the file, in the order of ps::Snapshot
};

/// CRC-32C of a range of elements of a record.
struct SavedRange {
  index_t record = 0;
  index_t begin = 0;
  index_t end = 0;
  index_t crc = 0;
};

/// Server -> server 0: its part is on the disk, or why not.
struct SavePrepared {
  index_t step = 0;
  index_t server = 0;
  std::string error;  ///< empty: all is well
  std::vector<SavedRange> ranges;
};

/// Server 0 -> other servers: the checkpoint counts from now on, or was given up.
struct SaveEnd {
  index_t step = 0;
  std::string error;  ///< empty: committed
};

/// What a control message is (see control.hpp).
enum class MessageKind : std::uint16_t {
  report = 1,
  partials = 2,
  directive = 3,
  finished = 4,  ///< server 0 -> workers, no content: everything is committed
  save_begin = 5,
  save_prepared = 6,
  save_end = 7,
  arrival = 8,
  close = 9,
  direction_partials = 10,
  trust_ratios = 11,
  stop = 12,  ///< any rank -> server 0, no content: the job is asked to stop
};

/// The bytes of a control message. Scalars as such, vectors after their count; the same on every
/// machine.
std::vector<std::byte> to_bytes(const Report& message);
std::vector<std::byte> to_bytes(const Arrival& message);
std::vector<std::byte> to_bytes(const Close& message);
std::vector<std::byte> to_bytes(const Partials& message);
std::vector<std::byte> to_bytes(const Directive& message);
std::vector<std::byte> to_bytes(const DirectionPartials& message);
std::vector<std::byte> to_bytes(const TrustRatios& message);
std::vector<std::byte> to_bytes(const SaveBegin& message);
std::vector<std::byte> to_bytes(const SavePrepared& message);
std::vector<std::byte> to_bytes(const SaveEnd& message);

/// Back again; exists for the structs above. Throws Error if the bytes are no such message:
/// too short, too long, a count of more elements than there are bytes (checked before anything is
/// allocated), a bool or an enum out of range.
template <class Message>
Message from_bytes(std::span<const std::byte> bytes);

}  // namespace weir
