#pragma once

#include "common/base/list.hpp"
#include "common/number/tensor.hpp"

namespace weir {

/// Places that a server is given for its buckets, since others read or write there, too. They
/// are indexed by the bucket's place in the plan; where nothing is given the server takes memory of
/// its own.
struct BucketMemory {
  List<Vector> weights;  ///< where readers read them, in the plan's weight dtype
  /// Each bucket's, one a contributor, as ps::Store numbers them.
  List<List<Vector>> contributions;
  /// Workers, by rank, whose gradients come with those of their leader (DataPlane::is_led). None if
  /// it is empty.
  List<bool> led = {};
};

}  // namespace weir
