#include "common/wire/topk.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "common/number/random.hpp"

using namespace weir;

namespace {

struct Taken {
  std::vector<std::uint32_t> indices;
  std::vector<float> kept;
  std::vector<float> residual;
};

Taken take(const std::vector<float>& values, std::vector<float> residual, std::size_t count) {
  Taken taken = {std::vector<std::uint32_t>(count), std::vector<float>(count), std::move(residual)};
  take_topk(values, taken.residual, taken.indices, taken.kept);
  return taken;
}

/// What to take, found by sorting all values.
Taken sorted_out(const std::vector<float>& values, std::vector<float> residual, std::size_t count) {
  for (std::size_t i = 0; i < values.size(); ++i) residual[i] += values[i];
  std::vector<std::uint32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, std::greater{},
                           [&](std::uint32_t i) { return std::fabs(residual[i]); });
  Taken taken;
  taken.indices.assign(order.begin(), order.begin() + static_cast<long>(count));
  std::ranges::sort(taken.indices);
  for (const std::uint32_t index : taken.indices) {
    taken.kept.push_back(residual[index]);
    residual[index] = 0;
  }
  taken.residual = std::move(residual);
  return taken;
}

void check_same(const Taken& found, const Taken& expected) {
  CHECK(found.indices == expected.indices);
  CHECK(found.kept == expected.kept);
  CHECK(found.residual == expected.residual);
}

}  // namespace

TEST_CASE("topk takes what sorting all would take, and leaves the rest in the residual") {
  for (const std::size_t size : {1, 2, 63, 64, 65, 1000, 20000}) {
    for (const double share : {0.0001, 0.01, 0.3, 0.99, 1.0}) {
      std::vector<float> values(size), residual(size);
      fill_normal(values, 1, size, 0, 1);
      fill_normal(residual, 2, size, 0, 0.3F);
      const auto count =
          std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(size)));
      CAPTURE(size);
      CAPTURE(count);
      check_same(take(values, residual, count), sorted_out(values, residual, count));
    }
  }
}

TEST_CASE("of equal magnitudes topk takes those with the lower index") {
  std::vector<float> values(5000);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(random_word(3, 0, i) % 3) * (i % 2 == 0 ? 1.0F : -1.0F);
  }
  for (const std::size_t count : {1, 10, 1500, 1700, 3400, 4999}) {
    CAPTURE(count);
    const std::vector<float> none(values.size());
    check_same(take(values, none, count), sorted_out(values, none, count));
  }
}

TEST_CASE("topk finds the largest where its sample misleads: all in one place, or in its stride") {
  std::vector<float> values(10000);
  for (std::size_t i = 0; i < values.size(); i += 61) values[i] = 1 + static_cast<float>(i);
  const std::vector<float> none(values.size());
  for (const std::size_t count : {5, 100, 164, 400}) {
    CAPTURE(count);
    check_same(take(values, none, count), sorted_out(values, none, count));
  }
  values.assign(values.size(), 0);
  for (std::size_t i = 5001; i < 5061; ++i) values[i] = static_cast<float>(i);
  for (const std::size_t count : {5, 60, 100}) {
    CAPTURE(count);
    check_same(take(values, none, count), sorted_out(values, none, count));
  }
}

TEST_CASE("a value that is not finite is sent as NaN and leaves the residual as it was") {
  std::vector<float> values(300, 1), residual(300, 0.5F);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    values[200] = bad;
    const Taken taken = take(values, residual, 3);
    CHECK(taken.indices == std::vector<std::uint32_t>{0, 1, 2});
    for (const float kept : taken.kept) CHECK(std::isnan(kept));
    CHECK(taken.residual == residual);
  }
}

TEST_CASE("topk keeps so many percent, rounded up, and one at least") {
  CHECK(topk_kept(0, 1) == 0);
  CHECK(topk_kept(1, 0.001) == 1);
  CHECK(topk_kept(100, 1) == 1);
  CHECK(topk_kept(101, 1) == 2);
  CHECK(topk_kept(131072, 0.1) == 132);
  CHECK(topk_kept(131072, 100) == 131072);
  CHECK(topk_kept(3, 99.9) == 3);
}
