#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "common/base/interval.hpp"
#include "common/base/list.hpp"
#include "common/number/dtype.hpp"

namespace weir {

/// What weights and gradients are in the arenas of workers and servers, and in buckets.
inline constexpr Dtype kArenaDtype = Dtype::f32;

enum class Role { trained };
enum class Initial { zeros, ones, normal };

/// One logical tensor of the model, as both tiers know it. It says nothing of a layout but which
/// dimension tensor shards cut.
struct ParameterSpec {
  std::string name;         ///< canonical and dotted: layers.3.attention.query.weight
  List<index_t> shape;      ///< row-major
  std::string layout = {};  ///< what the dimensions are, for people: `[outputs, inputs]`
  /// Shards hold runs of rows (the first dimension; see slice_of); otherwise every shard holds all
  /// of it and pushes what its own tokens add to its gradient.
  bool split = false;
  Initial initial = Initial::zeros;
  double deviation = 0;  ///< for Initial::normal
  std::string like;    ///< begins as the parameter of this name does; empty: from draws of its own
  bool decay = false;  ///< weight decay applies (not to norms and biases)
  Role role = Role::trained;
  /// The units that use it, ascending. A unit is what the model runs as one piece, numbered in
  /// forward order: 0 the embedding, 1 … L the blocks, L + 1 the head. Two for a tied embedding.
  List<index_t> units;

  index_t element_count() const;
  index_t row_elements() const;  ///< elements of one entry of the first dimension
};

/// The elements, row-major over the full shape, of the rows that one shard holds: ceil(rows /
/// shards) each, the last ones what is left.
Interval slice_of(const ParameterSpec& spec, index_t shard, index_t shards);

/// Fills `values` with the initial weights of elements [range.begin, range.end). Keyed by seed,
/// name and element: every layout starts from the same model.
void initial_weights(const ParameterSpec& spec, std::uint64_t seed, Interval range,
                     std::span<float> values);

/// The parameters by the layer that their names tell: `layers.3`, else the first word
/// (`embedding`).
struct LayerGroups {
  std::vector<std::string> names;  ///< sorted as the specs are
  List<index_t> of;                ///< each parameter's layer: its place among the names
};
LayerGroups layer_groups(const List<ParameterSpec>& specs);

/// Differs if any name, shape, split, unit or initial value differs.
std::string digest(const List<ParameterSpec>& specs);

}  // namespace weir
