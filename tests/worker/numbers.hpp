#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>
#include <vector>

#include "common/number/random.hpp"

namespace weir::test {

/// `size` floats of N(0, deviation) around `mean`, from seed and name.
inline std::vector<float> random_values(index_t size, std::uint64_t seed, std::string_view name,
                                        float deviation = 1, float mean = 0) {
  std::vector<float> values(size);
  fill_normal(values, seed, stream_of(name), 0, deviation);
  for (float& value : values) value += mean;
  return values;
}

inline std::vector<double> in_double(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

/// The slope of f at each element of `at` by central differences; in double with this step its
/// error is some 1e-9 of f.
inline std::vector<double> slopes(std::vector<double>& at, const std::function<double()>& f) {
  constexpr double kStep = 1e-5;
  std::vector<double> result(at.size());
  for (std::size_t i = 0; i < at.size(); ++i) {
    const double value = at[i];
    at[i] = value + kStep;
    const double above = f();
    at[i] = value - kStep;
    const double below = f();
    at[i] = value;
    result[i] = (above - below) / (2 * kStep);
  }
  return result;
}

/// Every |found - truth| <= tolerance * max(|truth|…, floor). The floor is for what is zero by
/// symmetry, such as the gradient of a key's bias without rotation: it has the rounding of the
/// terms that cancel.
template <class Found, class Truth>
void check_close(const Found& found, const Truth& truth, double tolerance, double floor = 0.1) {
  REQUIRE(found.size() == truth.size());
  double magnitude = floor;
  for (const auto value : truth) magnitude = std::max(magnitude, std::abs(double(value)));
  double worst = 0;
  std::size_t worst_at = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double difference = std::abs(double(found[i]) - double(truth[i]));
    if (!(difference <= worst)) {  // a NaN is the worst
      worst = difference;
      worst_at = i;
    }
  }
  CAPTURE(worst_at);
  CAPTURE(magnitude);
  CHECK(worst <= tolerance * magnitude);
}

}  // namespace weir::test
