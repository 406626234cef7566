#pragma once

#include <span>

#include "common/base/even_part.hpp"

namespace weir {

/// The micro-batches of a step that a replica takes, shared as evenly as possible: [d M / D, (d +
/// 1) M / D) for replica d of D and M micro-batches. Which samples a micro-batch holds does not
/// depend on the number of replicas.
inline Interval share_of(index_t micro_batches, index_t replica, index_t replicas) {
  return even_part(micro_batches, replica, replicas);
}

/// The share of a replica if `counts` says how many micro-batches each one takes.
inline Interval share_of(std::span<const index_t> counts, index_t replica) {
  Interval share;
  for (index_t each = 0; each <= replica; ++each) {
    share = {share.end, share.end + counts[static_cast<std::size_t>(each)]};
  }
  return share;
}

/// The first sample of a step's micro-batch: the step takes up those in `again` first (each the
/// first sample of a micro-batch that an earlier step left out), then new ones from `cursor` on.
inline index_t first_sample(std::span<const index_t> again, index_t cursor, index_t micro_batch,
                            index_t index) {
  const auto taken_up = static_cast<index_t>(again.size());
  if (index < taken_up) return again[static_cast<std::size_t>(index)];
  return cursor + (index - taken_up) * micro_batch;
}

}  // namespace weir
