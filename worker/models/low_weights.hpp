#pragma once

#include <vector>

#include "common/job/bucket.hpp"
#include "common/number/memory.hpp"
#include "worker/models/model.hpp"

namespace weir::worker {

/// A worker's weights once more in another dtype, element by element where the f32 ones are, for
/// models that compute with them (Model::weight_dtype). The f32 weights are the servers' business
/// and stay as they are.
class LowWeights {
 public:
  LowWeights(const Model& model, const Holding& holding);
  /// Converts the weights of a unit, to nearest even, once its new f32 weights are here.
  void refresh(Kernels& kernels, index_t unit, ConstVector weights);
  ConstVector all() const { return memory_.elements(dtype_); }

 private:
  Dtype dtype_;
  Memory memory_;
  std::vector<std::vector<HeldSlice>> slices_;  ///< those of each unit
};

}  // namespace weir::worker
