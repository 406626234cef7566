#include "worker/schedule/partition.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

#include "common/base/error.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

// What a cut is judged by, and the cut: the least of all is what the header promises.
using Judged = std::tuple<double, double, std::vector<index_t>>;

Judged judged(const std::vector<double>& costs, const std::vector<index_t>& first_units) {
  double most = 0;
  double squares = 0;
  for (std::size_t stage = 0; stage < first_units.size(); ++stage) {
    const auto end = stage + 1 < first_units.size() ? first_units[stage + 1] : std::ssize(costs);
    const double cost =
        std::accumulate(costs.begin() + first_units[stage], costs.begin() + end, 0.0);
    most = std::max(most, cost);
    squares += cost * cost;
  }
  return {most, squares, first_units};
}

/// The embedding and the head fill no stage.
std::vector<bool> blocks(const std::vector<double>& costs) {
  std::vector<bool> fills(costs.size(), true);
  fills.front() = fills.back() = false;
  return fills;
}

bool has_block(index_t begin, index_t end, index_t layers) {
  return std::max<index_t>(begin, 1) < std::min(end, layers + 1);
}

void try_all(const std::vector<double>& costs, index_t stages, std::vector<index_t>& first_units,
             std::vector<Judged>& cuts) {
  const index_t units = std::ssize(costs);
  if (std::ssize(first_units) == stages) {
    if (has_block(first_units.back(), units, units - 2)) cuts.push_back(judged(costs, first_units));
    return;
  }
  for (index_t next = first_units.back() + 1; next < units; ++next) {
    if (!has_block(first_units.back(), next, units - 2)) continue;
    first_units.push_back(next);
    try_all(costs, stages, first_units, cuts);
    first_units.pop_back();
  }
}

}  // namespace

TEST_CASE("the cut is the best of all cuts") {
  std::mt19937_64 random(20240607);
  for (int round = 0; round < 60; ++round) {
    for (index_t layers = 1; layers <= 8; ++layers) {
      for (index_t stages = 1; stages <= layers; ++stages) {
        std::vector<double> costs;  // whole numbers: sums are exact
        const std::uint64_t kinds = 1 + random() % 10;
        for (index_t unit = 0; unit < layers + 2; ++unit) costs.push_back(double(random() % kinds));
        std::vector<index_t> first_units = {0};
        std::vector<Judged> cuts;
        try_all(costs, stages, first_units, cuts);
        CAPTURE(round);
        CAPTURE(layers);
        CAPTURE(stages);
        REQUIRE(!cuts.empty());
        REQUIRE(judged(costs, partition_units(costs, blocks(costs), stages)) ==
                *std::ranges::min_element(cuts));
      }
    }
  }
}

TEST_CASE("for any number of layers no layer is lost and no stage is without one") {
  std::mt19937_64 random(42);
  for (index_t layers = 1; layers <= 48; ++layers) {
    for (index_t stages = 1; stages <= layers; ++stages) {
      std::vector<double> costs;
      for (index_t unit = 0; unit < layers + 2; ++unit) {
        costs.push_back(std::ldexp(double(random() >> 11), -53));
      }
      // The head or the embedding may cost more than all the blocks.
      costs[0] *= double(random() % 100);
      costs.back() *= double(random() % 100);
      const std::vector<index_t> first_units = partition_units(costs, blocks(costs), stages);
      CAPTURE(layers);
      CAPTURE(stages);
      REQUIRE(std::ssize(first_units) == stages);
      REQUIRE(first_units[0] == 0);
      for (std::size_t stage = 0; stage < first_units.size(); ++stage) {
        const index_t end = stage + 1 < first_units.size() ? first_units[stage + 1] : layers + 2;
        REQUIRE(has_block(first_units[stage], end, layers));
      }
      REQUIRE(partition_units(costs, blocks(costs), stages) == first_units);
    }
  }
}

TEST_CASE("equal blocks are spread evenly, the shorter stages first") {
  const std::vector<double> costs = {0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0};
  CHECK(partition_units(costs, blocks(costs), 4) == std::vector<index_t>{0, 3, 5, 8});
  CHECK(partition_units(costs, blocks(costs), 1) == std::vector<index_t>{0});
}

TEST_CASE("a costly head leaves fewer blocks to the last stage") {
  const std::vector<double> costs = {1, 2, 2, 2, 2, 2, 2, 6};
  CHECK(partition_units(costs, blocks(costs), 2) == std::vector<index_t>{0, 5});
}

TEST_CASE("more stages than layers are refused with both numbers") {
  const std::vector<double> costs = {1, 1, 1, 1};
  CHECK_THROWS_WITH_AS(
      partition_units(costs, blocks(costs), 3),
      "cut of the model into stages: fewer layers than stages (2 layers, 3 stages), and a stage "
      "needs at least one; ask for 2 stages or fewer, or for more layers",
      UsageError);
}

TEST_CASE("units that each fill a stage are cut anywhere") {
  const std::vector<double> costs = {5, 1, 1, 1};
  CHECK(partition_units(costs, {true, true, true, true}, 2) == std::vector<index_t>{0, 1});
  CHECK(partition_units(costs, {false, true, true, true}, 2) == std::vector<index_t>{0, 2});
}
