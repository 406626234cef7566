#include "worker/train/low_weights.hpp"

#include "common/base/error.hpp"
#include "common/wire/narrow.hpp"

namespace weir::worker {

LowWeights::LowWeights(const Model& model, const Holding& holding)
    : dtype_(model.weight_dtype()),
      memory_(holding.element_count, bytes_of(dtype_)),
      slices_(model.unit_count()) {
  WEIR_ASSERT(dtype_ == Dtype::bf16);
  const std::vector<ParameterSpec> specs = model.parameters();
  for (const HeldSlice& slice : holding.slices) {
    for (const index_t unit : specs[slice.parameter].units) {
      slices_[unit].push_back(slice);
    }
  }
}

void LowWeights::refresh(index_t unit, std::span<const float> weights) {
  for (const HeldSlice& slice : slices_[unit]) {
    const index_t count = slice.range.count();
    const std::span<Bf16> low = as<Bf16>(memory_.elements(dtype_).part(slice.offset, count));
    to_bf16(weights.subspan(slice.offset, count), {&low.data()->bits, low.size()});
  }
}

}  // namespace weir::worker
