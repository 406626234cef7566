#include "worker/train/low_weights.hpp"

#include "common/base/error.hpp"
#include "common/wire/narrow.hpp"

namespace weir::worker {

LowWeights::LowWeights(const Model& model, const Holding& holding)
    : dtype_(model.weight_dtype()),
      memory_(holding.element_count, bytes_of(dtype_)),
      slices_(static_cast<std::size_t>(model.unit_count())) {
  WEIR_ASSERT(dtype_ == Dtype::bf16);
  const std::vector<ParameterSpec> specs = model.parameters();
  for (const HeldSlice& slice : holding.slices) {
    for (const index_t unit : specs[static_cast<std::size_t>(slice.parameter)].units) {
      slices_[static_cast<std::size_t>(unit)].push_back(slice);
    }
  }
}

void LowWeights::refresh(index_t unit, std::span<const float> weights) {
  for (const HeldSlice& slice : slices_[static_cast<std::size_t>(unit)]) {
    const auto begin = static_cast<std::size_t>(slice.offset);
    const auto count = static_cast<std::size_t>(slice.range.count());
    const std::span<Bf16> low =
        as<Bf16>(memory_.elements(dtype_).part(slice.offset, slice.range.count()));
    to_bf16(weights.subspan(begin, count), {&low.data()->bits, count});
  }
}

}  // namespace weir::worker
