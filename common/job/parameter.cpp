#include "common/job/parameter.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "common/number/random.hpp"

namespace weir {

index_t ParameterSpec::element_count() const {
  index_t product = 1;
  for (index_t extent : shape) product *= extent;
  return product;
}

index_t ParameterSpec::row_elements() const { return element_count() / shape.front(); }

Interval slice_of(const ParameterSpec& spec, index_t shard, index_t shards) {
  if (!spec.split) return {0, spec.element_count()};
  const index_t rows = spec.shape.front();
  const index_t rows_a_shard = (rows + shards - 1) / shards;
  const index_t row_elements = spec.row_elements();
  return {std::min(rows, shard * rows_a_shard) * row_elements,
          std::min(rows, (shard + 1) * rows_a_shard) * row_elements};
}

void initial_weights(const ParameterSpec& spec, std::uint64_t seed, Interval range,
                     std::span<float> values) {
  WEIR_ASSERT(range.count() == std::ssize(values));
  switch (spec.initial) {
    case Initial::zeros:
      std::ranges::fill(values, 0.0f);
      return;
    case Initial::ones:
      std::ranges::fill(values, 1.0f);
      return;
    case Initial::normal:
      fill_normal(values, seed, stream_of(spec.like.empty() ? spec.name : spec.like),
                  static_cast<std::uint64_t>(range.begin), static_cast<float>(spec.deviation));
      return;
  }
  WEIR_UNREACHABLE();
}

LayerGroups layer_groups(const List<ParameterSpec>& specs) {
  LayerGroups groups;
  for (const ParameterSpec& spec : specs) {
    std::size_t end = spec.name.find('.');
    if (spec.name.starts_with("layers.")) end = spec.name.find('.', end + 1);
    const std::string name = spec.name.substr(0, end);
    const auto found = std::ranges::find(groups.names, name);
    groups.of.push_back(found - groups.names.begin());
    if (found == groups.names.end()) groups.names.push_back(name);
  }
  return groups;
}

std::string digest(const List<ParameterSpec>& specs) {
  std::string all;
  for (const ParameterSpec& spec : specs) {
    all += text(spec.name, " split ", spec.split, " initial ", static_cast<int>(spec.initial), " ",
                spec.deviation, " like ", spec.like, " decay ", spec.decay, " role ",
                static_cast<int>(spec.role), " shape");
    for (index_t extent : spec.shape) all += text(" ", extent);
    all += " units";
    for (index_t unit : spec.units) all += text(" ", unit);
    all += "\n";
  }
  return text(stream_of(all));  // xxh64
}

}  // namespace weir
