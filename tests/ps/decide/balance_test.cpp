#include "ps/decide/balance.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>

using namespace weir;
using namespace weir::ps;

TEST_CASE("no other shares end a step earlier: all of them tried") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> draw(0.1, 3);
  for (int round = 0; round < 50; ++round) {
    const std::vector<double> seconds = {draw(random), draw(random), draw(random)};
    const auto end = [&](index_t a, index_t b, index_t c) {
      return std::max({static_cast<double>(a) * seconds[0], static_cast<double>(b) * seconds[1],
                       static_cast<double>(c) * seconds[2]});
    };
    double best = 1e300;
    for (index_t a = 1; a <= 10; ++a) {
      for (index_t b = 1; a + b <= 11; ++b) best = std::min(best, end(a, b, 12 - a - b));
    }
    const std::vector<index_t> counts = balanced(12, seconds);
    CHECK(std::accumulate(counts.begin(), counts.end(), index_t{0}) == 12);
    CHECK(std::ranges::min(counts) >= 1);
    CHECK(end(counts[0], counts[1], counts[2]) == doctest::Approx(best));
  }
}

TEST_CASE("shares follow what is measured, after enough steps and for enough gain") {
  Balance balance(12, 3);
  CHECK(balance.counts() == std::vector<index_t>{4, 4, 4});
  for (index_t step = 1; step <= kBalanceSteps; ++step) {
    CHECK(!balance.propose());
    balance.measured(std::vector<double>{4, 11.6, 4.1});  // replica 1 takes three times as long
  }
  const auto counts = balance.propose();
  REQUIRE(counts);
  CHECK(*counts == std::vector<index_t>{5, 2, 5});
  balance.set(*counts);
  for (index_t step = 1; step <= kBalanceSteps; ++step) {
    // As expected, but for noise of which single steps have much.
    balance.measured(std::vector<double>{step % 7 == 0 ? 50.0 : 5.1, 6, 5});
  }
  CHECK(!balance.propose());
}
