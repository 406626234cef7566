#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/number/index.hpp"

/// What crosses the tiers beside the raw floats of the buckets, in the order of a step.
namespace weir {

/// 1. Worker -> server 0, after the last backward of an update: one from each context of a
/// replica's last stage, from its first shard.
struct Report {
  index_t update = 0;
  index_t replica = 0;
  index_t context = 0;
  double loss_sum = 0;  ///< natural logarithm, summed over the loss terms
  /// Loss terms (predicted tokens, or samples of a classifier); a context may have none.
  index_t count = 0;
};

/// 2a. Server -> server 0, when its last bucket of an update is summed: sums of squares of the
/// summed gradient, one double per fixed block, in the order of ps::Store::partials.
struct Partials {
  index_t update = 0;
  index_t server = 0;
  std::vector<double> squares;
};

enum class SkipReason : std::uint8_t { none, not_finite };

/// 2b. Server 0 -> all servers and all workers, once an update: what was decided.
struct Directive {
  index_t update = 0;    ///< the update this closes
  index_t step = 0;      ///< steps done, this one included (a skipped one counts)
  index_t cursor = 0;    ///< global index of the first sample of the next step
  double factor = 0;     ///< summed gradients times this are what the optimizer sees
  double rate = 0;       ///< learning rate of this step
  double loss = 0;       ///< mean over the loss terms of this update
  index_t count = 0;     ///< loss terms of this update
  double norm = 0;       ///< of the mean gradient, before the clip, rounded to float
  double threshold = 0;  ///< of the clip after this update; 0 for the policy `none`
  bool clipped = false;
  SkipReason skip = SkipReason::none;
  index_t skipped_count = 0;  ///< steps skipped since step 0
  bool checkpoint = false;    ///< the servers save after applying this update
  bool stop = false;          ///< the job ends after this update (and its checkpoint)
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
};

/// The bytes of a control message. Scalars as such, vectors after their count; the same on every
/// machine.
std::vector<std::byte> to_bytes(const Report& message);
std::vector<std::byte> to_bytes(const Partials& message);
std::vector<std::byte> to_bytes(const Directive& message);
std::vector<std::byte> to_bytes(const SaveBegin& message);
std::vector<std::byte> to_bytes(const SavePrepared& message);
std::vector<std::byte> to_bytes(const SaveEnd& message);

/// Back again; exists for the structs above. Throws Error if the bytes are no such message:
/// too short, too long, a count of more elements than there are bytes (checked before anything is
/// allocated), a bool or an enum out of range.
template <class Message>
Message from_bytes(std::span<const std::byte> bytes);

}  // namespace weir
