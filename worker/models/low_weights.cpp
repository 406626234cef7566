#include "worker/models/low_weights.hpp"

namespace weir::worker {

LowWeights::LowWeights(const Model& model, const Holding& holding)
    : dtype_(model.weight_dtype()),
      memory_(holding.element_count, bytes_of(dtype_)),
      slices_(model.unit_count()) {
  const std::vector<ParameterSpec> specs = model.parameters();
  for (const HeldSlice& slice : holding.slices) {
    for (const index_t unit : specs[slice.parameter].units) {
      slices_[unit].push_back(slice);
    }
  }
}

void LowWeights::refresh(Kernels& kernels, index_t unit, ConstVector weights) {
  for (const HeldSlice& slice : slices_[unit]) {
    kernels.copy(weights.part(slice.offset, slice.range.count()),
                 memory_.elements(dtype_).part(slice.offset, slice.range.count()));
  }
}

}  // namespace weir::worker
