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

#include "common/number/rounding.hpp"
#include "tests/reference.hpp"
#include "worker/kernels/cpu/by_dtype.hpp"
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

/// Calls function.operator()<T>() for each dtype of the elements.
template <class Function>
void for_each_dtype(const Function& function) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::fp16}) {
    INFO("elements: ", name_of(dtype));
    by_dtype(dtype, function);
  }
}

/// Calls function.operator()<T>() for each instruction set and each dtype of the elements.
template <class Function>
void for_each_path(const Function& function) {
  for_each_target([&] { for_each_dtype(function); });
}

/// Distance from 1 to the next number.
template <class T>
constexpr double kEpsilon = std::numeric_limits<T>::epsilon();
template <>
inline constexpr double kEpsilon<Bf16> = 0x1p-7;
template <>
inline constexpr double kEpsilon<Fp16> = 0x1p-10;
/// Epsilons of f32 in one of T: for what is summed in f32 out of numbers that were rounded to T.
template <class T>
constexpr double kCoarseness = kEpsilon<T> / kEpsilon<float>;

/// A matrix of elements T that starts `misalignment` elements past an aligned place and lies
/// between NaNs: what a kernel reads outside shows in its result, what it writes outside in
/// intact().
template <class T>
class BlockOf {
 public:
  BlockOf(index_t rows, index_t columns, index_t misalignment = 0)
      : rows_(rows), columns_(columns), begin_(kGuard + misalignment) {
    store_.assign(begin_ + rows * columns + kGuard, rounded_to<T>(kNan));
  }
  /// Uniform in [-spread, spread).
  BlockOf& randomize(std::mt19937_64& random, float spread = 1) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (T& value : view().span()) value = rounded_to<T>(uniform(random) * spread);
    return *this;
  }
  BlockOf& fill(float value) {
    std::ranges::fill(view().span(), rounded_to<T>(value));
    return *this;
  }

  View<T, 2> view() { return {store_.data() + begin_, {rows_, columns_}}; }
  View<const T, 2> view() const { return {store_.data() + begin_, {rows_, columns_}}; }
  std::span<T> span() { return view().span(); }
  std::span<const T> span() const { return view().span(); }
  float operator()(index_t row, index_t column) const { return float_of(view()(row, column)); }
  void set(index_t row, index_t column, float value) { view()(row, column) = rounded_to<T>(value); }
  index_t count(float value) const {
    return std::ranges::count_if(span(), [&](T element) { return float_of(element) == value; });
  }
  /// The same bits.
  friend bool operator==(const BlockOf& a, const BlockOf& b) {
    return std::ranges::equal(std::as_bytes(a.span()), std::as_bytes(b.span()));
  }
  bool intact() const {
    const auto poisoned = [](T value) { return std::isnan(float_of(value)); };
    return std::all_of(store_.begin(), store_.begin() + begin_, poisoned) &&
           std::all_of(store_.end() - kGuard, store_.end(), poisoned);
  }

 private:
  static constexpr index_t kGuard = 64;
  index_t rows_;
  index_t columns_;
  index_t begin_;
  std::vector<T> store_;
};

using Block = BlockOf<float>;

/// The same numbers in f64, for the twin.
class Exact {
 public:
  Exact(index_t rows, index_t columns)
      : rows_(rows), columns_(columns), store_(rows * columns, 0.0) {}
  template <class T>
  Exact(const BlockOf<T>& block) : Exact(block.view().extent(0), block.view().extent(1)) {
    std::ranges::transform(block.span(), store_.begin(), [](T value) { return float_of(value); });
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

/// The largest difference, in epsilons of T at `magnitude`; infinite if one is NaN and the other is
/// not, or if the infinities differ.
template <class T>
double distance(std::span<const T> got, reference::ConstVector want, double magnitude = 1) {
  REQUIRE(got.size() == want.size());
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double g = float_of(got[i]);
    if (g == want[i] || (std::isnan(g) && std::isnan(want[i]))) continue;
    const double difference = std::abs(g - want[i]);
    largest = std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                     : std::max(largest, difference);
  }
  return largest / (magnitude * kEpsilon<T>);
}

template <class T>
double distance(const BlockOf<T>& got, const Exact& want, double magnitude = 1) {
  return got.intact() ? distance(got.span(), want.span(), magnitude)
                      : std::numeric_limits<double>::infinity();
}

/// One below, at and above every vector length, twice and four times, and some odd ones.
inline const std::vector<index_t> kAwkwardSizes{1,  2,  3,  4,  5,  7,  8,   9,   15,  16, 17,
                                                31, 32, 33, 63, 64, 65, 100, 127, 129, 200};

}  // namespace weir::worker::test
