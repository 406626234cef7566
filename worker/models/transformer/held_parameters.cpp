#include "worker/models/transformer/held_parameters.hpp"

#include "common/base/error.hpp"

namespace weir::worker {

HeldParameters::HeldParameters(const ModelConfig& config, const Holding& holding)
    : specs_(parameter_specs(config)) {
  for (index_t index = 0; index < specs_.size(); ++index) {
    found_[specs_[index].name] = {&specs_[index], {.parameter = index, .range = {}}};
  }
  for (const HeldSlice& slice : holding.slices) {
    found_.at(specs_[slice.parameter].name).slice = slice;
  }
}

const HeldParameters::Found& HeldParameters::find(std::string_view name) const {
  const auto found = found_.find(name);
  WEIR_ASSERT(found != found_.end());
  const auto& [spec, slice] = found->second;
  // An empty slice has fewer rows than there are shards: a plan leaves it out.
  WEIR_ASSERT(spec->split || slice.range.count() > 0);
  return found->second;
}

HeldMatrix HeldParameters::matrix(std::string_view name) const {
  const auto& [spec, slice] = find(name);
  return {slice.offset, slice.range.count() / spec->row_elements(), spec->row_elements()};
}

HeldVector HeldParameters::vector(std::string_view name) const {
  const HeldSlice& slice = find(name).slice;
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
  const auto& [spec, slice] = find(name);
  return slice.range.begin / spec->row_elements();
}

}  // namespace weir::worker
