#include <algorithm>

#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::worker {

index_t CpuKernels::attention_strip(index_t heads_width) const {
  constexpr index_t kStripElements = 1 << 17;
  constexpr index_t kFewest = 128;  // OpenBLAS packs the weights anew for each strip
  constexpr index_t kMost = 512;
  return std::clamp(kStripElements / (3 * heads_width) / 16 * 16, kFewest, kMost);
}

index_t CpuKernels::product_strip(index_t rows, index_t columns) const {
  constexpr index_t kStripElements = 1 << 18;  // some 1 MiB of results
  constexpr index_t kFewestRows = 64;          // enough for an efficient product
  return std::clamp<index_t>(kStripElements / std::max<index_t>(columns, 1),
                             std::min(rows, kFewestRows), rows);
}

}  // namespace weir::worker
