#include "worker/train/loss_scaling.hpp"

#include <algorithm>
#include <bit>

#include "common/base/error.hpp"

namespace weir::worker {

index_t loss_terms(const DataShape& shape, index_t samples) {
  index_t terms = 1;
  for (const ColumnShape& column : shape.columns) {
    if (!column.is_target) continue;
    terms = std::max(terms, column.elements * (column.ragged ? shape.length : 1));
  }
  return samples * terms;
}

float loss_factor(Precision precision, double scale, index_t terms) {
  if (precision != Precision::fp16) return 1;
  const std::uint64_t whole = std::bit_ceil(static_cast<std::uint64_t>(terms));
  return static_cast<float>(scale / static_cast<double>(whole));
}

Unscaling::Unscaling(const Model& model, const Holding& holding, index_t first_unit)
    : runs_(model.unit_count()) {
  const List<ParameterSpec> specs = model.parameters();
  for (const HeldSlice& slice : holding.slices) {
    // Units come in descending order: with the lowest one here the gradient is complete.
    const auto& units = specs[slice.parameter].units;
    const auto lowest =
        std::ranges::find_if(units, [&](index_t unit) { return unit >= first_unit; });
    WEIR_ASSERT(lowest != units.end());
    List<Run>& runs = runs_[*lowest];
    if (!runs.empty() && runs.back().offset + runs.back().count == slice.offset) {
      runs.back().count += slice.range.count();
    } else {
      runs.push_back({slice.offset, slice.range.count()});
    }
  }
}

void Unscaling::complete(index_t unit, float factor, std::span<float> gradients) const {
  if (factor == 1) return;
  const float inverse = 1 / factor;  // exact: a power of two
  for (const Run& run : runs_[unit]) {
    float* const begin = gradients.data() + run.offset;
#pragma omp simd
    for (index_t i = 0; i < run.count; ++i) begin[i] *= inverse;
  }
}

}  // namespace weir::worker
