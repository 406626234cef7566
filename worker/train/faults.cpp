#include "worker/train/faults.hpp"

#include <algorithm>
#include <limits>

#include "common/number/random.hpp"

namespace weir::worker {

void FaultyDataset::training_sample(index_t cursor, Sample& sample) const {
  clean_->training_sample(cursor, sample);
  if (!has_random_targets(injection_, cursor / batch_ + 1, seed_)) return;
  const std::uint64_t stream = stream_of("inject targets");
  const DataShape shape = this->shape();
  for (const ColumnShape& column : shape.columns) {
    if (!column.is_target || column.values == 0) continue;
    const auto targets = sample.integers(column.name);
    for (std::size_t at = 0; at < targets.size(); ++at) {
      if (targets[at] < 0) continue;
      const std::uint64_t index = static_cast<std::uint64_t>(cursor * shape.length) + at;
      targets[at] = static_cast<std::int32_t>(random_word(seed_, stream, index) %
                                              static_cast<std::uint64_t>(column.values));
    }
  }
}

FaultyService::FaultyService(ParameterService& service, const BucketPlan& plan,
                             const WorkerPlace& place, Injection injection, std::uint64_t seed)
    : service_(service),
      plan_(plan),
      place_(place),
      injection_(std::move(injection)),
      seed_(seed) {}

void FaultyService::ready(index_t unit) {
  const bool any = std::ranges::any_of(
      injection_.faults, [&](const Fault& fault) { return strikes(fault, step_, seed_); });
  if (any) {
    const auto is_here = [&](index_t each) { return plan_.unit_stage()[each] == place_.stage; };
    for (const HeldSlice& slice : plan_.holding(holder_of(place_)).slices) {
      const auto& units = plan_.specs()[slice.parameter].units;
      // Units come in descending order, so a gradient is complete with the lowest unit that is
      // here.
      if (*std::ranges::find_if(units, is_here) != unit) continue;
      strike(slice, as<float>(service_.gradients().part(slice.offset, slice.range.count())));
    }
  }
  service_.ready(unit);
}

void FaultyService::strike(const HeldSlice& slice, std::span<float> gradient) {
  const std::vector<ParameterSpec>& specs = plan_.specs();
  for (const Fault& fault : injection_.faults) {
    if (!strikes(fault, step_, seed_)) continue;
    const auto one_of = [&](index_t count) { return struck(fault, step_, seed_, count); };
    if (strikes_one_element(fault.kind)) {
      index_t element = 0;  // of all parameters, then of this one
      for (const ParameterSpec& spec : specs) element += spec.element_count();
      element = one_of(element);
      for (index_t before = 0; before < slice.parameter; ++before) {
        element -= specs[before].element_count();
      }
      // Spoiled once, though several workers may hold it: in one replica, one context, the first of
      // its stages.
      const auto& units = specs[slice.parameter].units;
      const bool owns = place_.replica == 0 && place_.context == 0 &&
                        plan_.unit_stage()[units.front()] == place_.stage;
      if (owns && slice.range.begin <= element && element < slice.range.end) {
        gradient[element - slice.range.begin] =
            fault.kind == FaultKind::flip ? kFlipped : std::numeric_limits<float>::infinity();
      }
      continue;
    }
    if (fault.kind == FaultKind::tensor && one_of(std::ssize(specs)) != slice.parameter) {
      continue;
    }
    for (float& value : gradient) value *= static_cast<float>(fault.factor);
  }
}

}  // namespace weir::worker
