#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "common/net/messages.hpp"
#include "common/net/mpi.hpp"

namespace weir {

/// The longest control message. Those of a step stay below 4 KiB, so that they leave at once
/// whatever the receiver does; sums of squares of large models are longer.
inline constexpr index_t kLongestMessage = index_t{64} << 20;

/// Sends small messages to any rank of a group and takes those that come for its tier, from any
/// rank at any time. Two ports get each other's messages in the order they were sent. One a group,
/// rank and tier.
class ControlPort {
 public:
  /// comm outlives the port. It may carry channels as well.
  ControlPort(const Comm& comm, Tier own) : comm_(comm), own_(own) {}
  ControlPort(const ControlPort&) = delete;
  ControlPort& operator=(const ControlPort&) = delete;
  /// Waits until all that was sent has left, except while unwinding.
  ~ControlPort();

  /// Never blocks; the bytes are copied. To this rank itself, too.
  void send(int rank, Tier tier, MessageKind kind, std::span<const std::byte> bytes);

  /// Moves what travels and calls `take(int source, MessageKind, std::span<const std::byte>)` for
  /// each message that has come. `take` may send, but not poll. True if anything came. Throws Error
  /// if what came is no message of ours or longer than kLongestMessage; no length is believed
  /// before it is checked.
  template <class Take>
  bool poll(Take&& take) {
    bool came = false;
    move();
    while (const auto message = next()) {
      came = true;
      take(message->source, message->kind, std::span<const std::byte>(message->bytes));
    }
    return came;
  }

  /// All that was sent has left.
  bool idle() const { return sending_.empty(); }

 private:
  struct Message {
    int source;
    MessageKind kind;
    std::vector<std::byte> bytes;
  };
  struct Transfer {
    int peer;
    std::vector<std::byte> frame;  ///< header and bytes
    Request request;
  };

  void move();
  std::optional<Message> next();

  const Comm& comm_;
  const Tier own_;
  std::deque<Transfer> sending_;
  std::deque<Transfer> arriving_;
};

}  // namespace weir
