#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "common/base/even_part.hpp"
#include "common/net/mpi.hpp"

namespace weir {

/// Swaps parts of matrices among the ranks of a group. Part r of a matrix is the rows of
/// even_part(rows, r, ranks), and belongs to rank r. All ranks make every call, in the same order
/// and with the same sizes; one swap ends before the next one starts.
class PartExchange {
 public:
  virtual ~PartExchange() = default;
  /// Starts to give every rank its part of this rank's matrix, whose bytes may change at once.
  virtual void start_scatter(std::span<const std::byte> matrix, index_t rows) = 0;
  /// Waits until it has ended. Returns this rank's part of the matrices of all ranks, in their
  /// order; it stands until the next swap starts.
  virtual std::span<const std::span<const std::byte>> finish_scatter() = 0;
  /// Fills in the parts of the other ranks from their matrices; each brings its own.
  virtual void gather(std::span<std::byte> matrix, index_t rows) = 0;
  /// Moves what travels; never blocks. Without it nothing may move between start and finish.
  virtual void progress() = 0;
};

/// Through memory that all ranks see, if they are on one host, `may_share` and the host lets them;
/// else by messages, on persistent requests: one set for each size, made when it comes first.
/// Collective. A swap moves `bytes` at most. The exchange takes twice that. A rank that waits stays
/// awake and calls `progress_elsewhere`. `comm` outlives the exchange, and nobody else sends
/// messages in it.
std::unique_ptr<PartExchange> make_part_exchange(const Comm& comm, index_t bytes, bool may_share,
                                                 std::function<bool()> progress_elsewhere);

}  // namespace weir
