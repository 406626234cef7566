#include "worker/models/held_parameters.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir::worker {

HeldParameters::HeldParameters(const ModelConfig& config, const Holding& holding)
    : specs_(parameter_specs(config)), holding_(holding) {}

HeldParameters::Found HeldParameters::find(std::string_view name) const {
  const auto spec = std::ranges::find(specs_, name, &ParameterSpec::name);
  WEIR_ASSERT(spec != specs_.end());
  const index_t index = spec - specs_.begin();
  const auto slice = std::ranges::find(holding_.slices, index, &HeldSlice::parameter);
  if (slice != holding_.slices.end()) return {&*spec, *slice};
  WEIR_ASSERT(spec->split);  // fewer rows than shards: a plan leaves empty slices out
  return {&*spec, {.parameter = index, .range = {}, .offset = 0}};
}

HeldMatrix HeldParameters::matrix(std::string_view name) const {
  const auto [spec, slice] = find(name);
  return {slice.offset, slice.range.count() / spec->row_elements(), spec->row_elements()};
}

HeldVector HeldParameters::vector(std::string_view name) const {
  const HeldSlice slice = find(name).slice;
  return {slice.offset, slice.range.count()};
}

HeldMatrix HeldParameters::matrices(const std::vector<std::string>& names) const {
  HeldMatrix all = matrix(names.front());
  for (std::size_t index = 1; index < names.size(); ++index) {
    const HeldMatrix next = matrix(names[index]);
    WEIR_ASSERT(next.columns == all.columns);
    WEIR_ASSERT(next.offset == all.offset + all.rows * all.columns);
    all.rows += next.rows;
  }
  return all;
}

HeldVector HeldParameters::vectors(const std::vector<std::string>& names) const {
  HeldVector all = vector(names.front());
  for (std::size_t index = 1; index < names.size(); ++index) {
    const HeldVector next = vector(names[index]);
    WEIR_ASSERT(next.offset == all.offset + all.size);
    all.size += next.size;
  }
  return all;
}

index_t HeldParameters::first_row(std::string_view name) const {
  const auto [spec, slice] = find(name);
  return slice.range.begin / spec->row_elements();
}

}  // namespace weir::worker
