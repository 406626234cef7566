#pragma once

#include <array>
#include <functional>
#include <span>

#include "common/job/layout.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

/// What all workers of a job found together, from what each found itself. The shards of a last
/// stage all know its loss, which counts once; contexts have one each, other stages none. `sum`
/// adds up over all workers, in place; without it there is one.
inline Loss whole_loss(const Loss& own, const WorkerPlace& place,
                       const std::function<void(std::span<double>)>& sum) {
  const Loss loss = place.shard > 0 ? Loss{} : own;
  std::array<double, 3> sums = {loss.sum, static_cast<double>(loss.count),
                                static_cast<double>(loss.correct)};
  if (sum) sum(sums);
  return {sums[0], static_cast<index_t>(sums[1]), static_cast<index_t>(sums[2])};
}

}  // namespace weir::worker
