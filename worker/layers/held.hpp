#pragma once

#include "worker/layers/pass.hpp"

namespace weir::worker {

/// A matrix of weights, and the products that read it: what is packed (Kernels::pack).
struct ProductWeights {
  ConstMatrix matrix;
  WeightUses uses;
};

/// Where a matrix that this worker holds lies in the arenas of weights and of gradients. It may
/// have 0 rows: a shard whose slice of a small vocabulary is empty.
struct HeldMatrix {
  index_t offset = 0;  ///< elements
  index_t rows = 0;
  index_t columns = 0;

  ConstMatrix weights(const Pass& pass) const {
    return {pass.weights.part(offset, rows * columns), rows, columns};
  }
  Matrix gradients(const Pass& pass) const {
    return {pass.gradients.part(offset, rows * columns), rows, columns};
  }
};

/// The same for a vector.
struct HeldVector {
  index_t offset = 0;  ///< elements
  index_t size = 0;

  ConstVector weights(const Pass& pass) const { return pass.weights.part(offset, size); }
  Vector gradients(const Pass& pass) const { return pass.gradients.part(offset, size); }
};

}  // namespace weir::worker
