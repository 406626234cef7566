#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "common/job/bucket.hpp"
#include "common/job/parameter.hpp"

/// What the tests of a server share: a small model, plans over it, gradients made up for it.
namespace weir::test {

inline ParameterSpec spec(const std::string& name, std::vector<index_t> shape, bool split,
                          std::vector<index_t> units) {
  ParameterSpec made;
  made.name = name;
  made.shape = std::move(shape);
  made.split = split;
  made.initial = made.shape.size() > 1 ? Initial::normal : Initial::ones;
  made.deviation = 0.1;
  made.decay = made.shape.size() > 1;
  made.units = std::move(units);
  return made;
}

/// A tied embedding, two blocks, a norm; slices of several blocks, and odd sizes.
inline std::vector<ParameterSpec> small_parameters() {
  std::vector<ParameterSpec> specs = {spec("embedding", {501, 67}, true, {0, 3})};
  for (index_t layer = 1; layer <= 2; ++layer) {
    const std::string name = "layers." + std::to_string(layer);
    specs.push_back(spec(name + ".norm", {67}, false, {layer}));
    specs.push_back(spec(name + ".query", {134, 67}, true, {layer}));
    specs.push_back(spec(name + ".up", {268, 67}, true, {layer}));
  }
  specs.push_back(spec("final_norm", {67}, false, {3}));
  return specs;
}

/// The same in few bytes, for tests that save them often.
inline std::vector<ParameterSpec> tiny_parameters() {
  return {spec("embedding", {9, 7}, true, {0, 3}), spec("layers.1.up", {33, 7}, true, {1}),
          spec("layers.2.norm", {7}, false, {2})};
}

inline BucketPlan plan_of(const Layout& layout, index_t bucket_bytes = 1 << 17,
                          std::vector<ParameterSpec> specs = small_parameters(),
                          Dtype weight_dtype = Dtype::f32) {
  const std::vector<index_t> unit_stage =
      layout.stages == 1 ? std::vector<index_t>{0, 0, 0, 0} : std::vector<index_t>{0, 0, 1, 1};
  return BucketPlan(std::move(specs), unit_stage, layout, bucket_bytes, {}, weight_dtype);
}

/// A number made up for an element of a contribution, the same under every layout: about normal,
/// with a spread over many magnitudes. `salt` tells updates and contributors apart.
inline float made_up(index_t salt, index_t parameter, index_t element) {
  std::uint64_t x = static_cast<std::uint64_t>(salt) * 0x9e3779b97f4a7c15u +
                    static_cast<std::uint64_t>(parameter) * 0xbf58476d1ce4e5b9u +
                    static_cast<std::uint64_t>(element);
  for (int round = 0; round < 3; ++round) {
    x ^= x >> 31;
    x *= 0x94d049bb133111ebu;
  }
  x ^= x >> 29;
  const double unit = static_cast<double>(x >> 12) / 4503599627370496.0;  // [0, 1)
  const double sign = (x & 1) != 0 ? 1 : -1;
  return static_cast<float>(sign * std::exp(8 * unit - 6));
}

}  // namespace weir::test
