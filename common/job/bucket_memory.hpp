#pragma once

#include <span>
#include <vector>

namespace weir {

/// Places that a server is given for its buckets, since others read or write there, too. By the
/// bucket's index in the plan; where nothing is given the server takes memory of its own.
struct BucketMemory {
  std::vector<std::span<float>> weights;
  /// By contributor, as ps::Store numbers them.
  std::vector<std::vector<std::span<float>>> contributions;
};

}  // namespace weir
