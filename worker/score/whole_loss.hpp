#pragma once

#include <array>
#include <functional>
#include <span>

#include "common/job/layout.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

/// The loss of all workers together, from the loss that each has found. The shards of a last stage
/// all know its loss, which counts once; each context has one of its own, other stages have none.
/// `sum` adds up over all workers, in place; it is empty if there is one worker.
inline Loss whole_loss(const Loss& own, const WorkerPlace& place,
                       const std::function<void(std::span<double>)>& sum) {
  const Loss loss = place.shard > 0 ? Loss{} : own;
  std::array<double, 3> sums = {loss.sum, static_cast<double>(loss.count),
                                static_cast<double>(loss.correct)};
  if (sum) sum(sums);
  return {sums[0], static_cast<index_t>(sums[1]), static_cast<index_t>(sums[2])};
}

}  // namespace weir::worker
