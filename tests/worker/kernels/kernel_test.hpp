#pragma once

#include "worker/kernels/cpu/simd.hpp"
// Highway reads what the line above defines.
#include <doctest/doctest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/reference.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::worker::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Calls function() once for each instruction set that this processor has and the kernels know.
template <class Function>
void for_each_target(const Function& function) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    INFO("instructions: ", std::string(hwy::TargetName(target)));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    function();
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

/// A matrix of floats that starts `misalignment` elements past an aligned place and lies between
/// NaNs: what a kernel reads outside shows in its result, what it writes outside in intact().
class Block {
 public:
  Block(index_t rows, index_t columns, index_t misalignment = 0)
      : rows_(rows), columns_(columns), begin_(kGuard + misalignment) {
    store_.assign(static_cast<std::size_t>(begin_ + rows * columns + kGuard), kNan);
  }
  /// Uniform in [-1, 1).
  Block& randomize(std::mt19937_64& random) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& value : view().span()) value = uniform(random);
    return *this;
  }
  Block& fill(float value) {
    std::ranges::fill(view().span(), value);
    return *this;
  }

  View<float, 2> view() { return {store_.data() + begin_, {rows_, columns_}}; }
  View<const float, 2> view() const { return {store_.data() + begin_, {rows_, columns_}}; }
  std::span<float> span() { return view().span(); }
  std::span<const float> span() const { return view().span(); }
  bool intact() const {
    const auto poisoned = [](float value) { return std::isnan(value); };
    return std::all_of(store_.begin(), store_.begin() + begin_, poisoned) &&
           std::all_of(store_.end() - kGuard, store_.end(), poisoned);
  }

 private:
  static constexpr index_t kGuard = 64;
  index_t rows_;
  index_t columns_;
  index_t begin_;
  std::vector<float> store_;
};

/// The same numbers in f64, for the twin.
class Exact {
 public:
  Exact(index_t rows, index_t columns)
      : rows_(rows), columns_(columns), store_(static_cast<std::size_t>(rows * columns), 0.0) {}
  Exact(const Block& block) : Exact(block.view().extent(0), block.view().extent(1)) {
    std::ranges::copy(block.span(), store_.begin());
  }

  reference::Matrix view() { return {store_.data(), {rows_, columns_}}; }
  reference::ConstMatrix view() const { return {store_.data(), {rows_, columns_}}; }
  reference::Vector span() { return store_; }
  reference::ConstVector span() const { return store_; }

 private:
  index_t rows_;
  index_t columns_;
  std::vector<double> store_;
};

/// The largest difference, in f32 epsilons of `magnitude`; infinite if one is NaN and the other
/// is not, or if the infinities differ.
inline double distance(std::span<const float> got, reference::ConstVector want,
                       double magnitude = 1) {
  REQUIRE(got.size() == want.size());
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double g = got[i];
    if (g == want[i] || (std::isnan(g) && std::isnan(want[i]))) continue;
    const double difference = std::abs(g - want[i]);
    largest = std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                     : std::max(largest, difference);
  }
  return largest / (magnitude * std::numeric_limits<float>::epsilon());
}

inline double distance(const Block& got, const Exact& want, double magnitude = 1) {
  return got.intact() ? distance(got.span(), want.span(), magnitude)
                      : std::numeric_limits<double>::infinity();
}

/// One below, at and above every vector length, twice and four times, and some odd ones.
inline const std::vector<index_t> kAwkwardSizes{1,  2,  3,  4,  5,  7,  8,   9,   15,  16, 17,
                                                31, 32, 33, 63, 64, 65, 100, 127, 129, 200};

}  // namespace weir::worker::test
