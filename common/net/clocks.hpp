#pragma once

#include <span>

#include "common/net/mpi.hpp"

namespace weir {

/// The clocks of the ranks on one scale: that of rank 0. Clocks of one host are the same; those of
/// several hosts began at different times and run apart by some microseconds a second.

/// A question of rank 0 to another rank, what that rank's clock showed, and when the answer came.
struct ClockExchange {
  double sent_s = 0;   ///< rank 0's clock
  double there_s = 0;  ///< the other clock
  double back_s = 0;   ///< rank 0's
};

/// How far another clock was ahead of rank 0's.
struct ClockReading {
  double at_s = 0;     ///< when, by the other clock
  double ahead_s = 0;  ///< within error_s
  double error_s = 0;
};

/// What the fastest of the exchanges says. The other clock was read at some moment between sent and
/// back, so half of the way there and back bounds the error, however long either way took.
ClockReading reading_of(std::span<const ClockExchange> exchanges);

/// Times of one rank's clock as times of rank 0's, from a reading before and one after. In between
/// the clocks may run at different speeds, each at a constant one: the error is then at most that
/// of the worse reading.
class ClockLine {
 public:
  ClockLine() = default;  ///< rank 0's own
  ClockLine(const ClockReading& first, const ClockReading& last) : first_(first), last_(last) {}
  double to_rank_0(double own_s) const { return own_s - ahead_at(own_s); }
  double ahead_at(double own_s) const;
  double error_s() const;

 private:
  ClockReading first_;
  ClockReading last_;
};

/// How far this rank's clock is ahead. Ranks on rank 0's host have its clock; rank 0 asks the
/// others one after the other, up to 30 ms each. host: the ranks of `comm` on this one's host
/// (Comm::host). Collective over both.
ClockReading read_clock(const Comm& comm, const Comm& host);

}  // namespace weir
