#pragma once

#include <cstdint>

#include "worker/layers/pass.hpp"

namespace weir::worker {

/// Dropout of this shard's own rows, in training only; forward and backward are the same call. The
/// mask depends only on the pass's seed, `stream`, sample, token and feature, so backward makes it
/// again and it is the same in every layout.
struct Dropout {
  double rate = 0;
  std::uint64_t stream = 0;  ///< stream_of(the layer's name)

  /// values [own rows, E], in place.
  void apply(const Pass& pass, const MicroBatch& batch, Matrix values) const;
};

}  // namespace weir::worker
