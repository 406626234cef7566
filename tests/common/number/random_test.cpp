#include "common/number/random.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <span>
#include <vector>

using namespace weir;

TEST_CASE("the words are those of Philox4x32-10's published test vectors") {
  // Random123 1.14, tests/kat_vectors.
  CHECK(random_words(0, 0, 0) ==
        std::array<std::uint64_t, 2>{0xe169c58d6627e8d5, 0x9b00dbd8bc57ac4c});
  constexpr std::uint64_t kOnes = ~std::uint64_t{0};
  CHECK(random_words(kOnes, kOnes, kOnes) ==
        std::array<std::uint64_t, 2>{0x41c83b0e408f276d, 0x6d5451fda20bc7c6});
  CHECK(random_words(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) ==
        std::array<std::uint64_t, 2>{0x94fdccebd16cfe09, 0x24126ea15001e420});
}

TEST_CASE("a name's stream is its xxh64") {
  CHECK(stream_of("") == 0xef46db3751d8e999);     // xxHash specification
  CHECK(stream_of("abc") == 0x44bc2cf5ad770999);  // xxHash specification
  CHECK(stream_of("layers.1.x") != stream_of("layers.2.x"));
}

TEST_CASE("uniform numbers lie in [0, 1) with the mean and variance of the uniform law") {
  constexpr int kCount = 100000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double number = uniform(1, 2, static_cast<std::uint64_t>(i));
    CHECK_UNARY(number >= 0);
    CHECK_UNARY(number < 1);
    sum += number;
    squares += number * number;
  }
  const double mean = sum / kCount;
  CHECK(std::abs(mean - 0.5) < 5 * std::sqrt(1.0 / 12 / kCount));
  CHECK(squares / kCount - mean * mean == doctest::Approx(1.0 / 12).epsilon(0.01));
}

TEST_CASE("a range filled in any pieces holds the same numbers") {
  constexpr std::uint64_t kSeed = 5;
  constexpr std::uint64_t kStream = 77;
  std::vector<float> whole(103);
  fill_normal(whole, kSeed, kStream, 1000, 0.02F);
  for (std::size_t begin = 0; begin < 9; ++begin) {
    for (std::size_t size : {1, 2, 3, 4, 5, 8, 50, 90}) {
      CAPTURE(begin);
      CAPTURE(size);
      std::vector<float> piece(size);
      fill_normal(piece, kSeed, kStream, 1000 + begin, 0.02F);
      CHECK(std::ranges::equal(piece, std::span(whole).subspan(begin, size)));
    }
  }
}

TEST_CASE("normal numbers have the moments and tails of the normal law") {
  constexpr std::size_t kCount = 200000;
  std::vector<float> numbers(kCount);
  fill_normal(numbers, 3, stream_of("weights"), 0, 2.0F);
  std::array<double, 5> moments{};
  double beyond_two = 0;
  double neighbours = 0;  // correlation inside a Box-Muller pair
  for (std::size_t i = 0; i < kCount; ++i) {
    const double z = numbers[i] / 2.0;
    double power = 1;
    for (double& moment : moments) {
      moment += power / kCount;
      power *= z;
    }
    if (std::abs(z) > 2) beyond_two += 1.0 / kCount;
    if (i % 2 == 0) neighbours += z * numbers[i + 1] / 2.0 / (kCount / 2.0);
  }
  const double noise = 5 / std::sqrt(static_cast<double>(kCount));
  CHECK(std::abs(moments[1]) < noise);
  CHECK(std::abs(moments[2] - 1) < noise * std::sqrt(2.0));
  CHECK(std::abs(moments[3]) < noise * std::sqrt(15.0));
  CHECK(std::abs(moments[4] - 3) < noise * std::sqrt(96.0));
  CHECK(std::abs(beyond_two - std::erfc(std::sqrt(2.0))) < noise * 0.21);
  CHECK(std::abs(neighbours) < noise * std::sqrt(2.0));
}

TEST_CASE("seed, stream and index each change the number") {
  const auto base = random_word(1, 2, 3);
  CHECK(random_word(2, 2, 3) != base);
  CHECK(random_word(1, 3, 3) != base);
  CHECK(random_word(1, 2, 4) != base);
  CHECK(random_word(1ULL << 40 | 1, 2, 3) != base);
  CHECK(random_word(1, 2ULL << 32, 3) != base);
  CHECK(random_word(1, 2, 3ULL << 32) != base);
}

TEST_CASE("permute meets every place exactly once") {
  for (const index_t size : {1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 1000, 4097}) {
    for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
      CAPTURE(size);
      std::vector<int> hits(size);
      for (index_t i = 0; i < size; ++i) {
        const index_t place = permute(i, size, 9, epoch);
        REQUIRE(place >= 0);
        REQUIRE(place < size);
        ++hits[place];
      }
      CHECK(hits == std::vector<int>(size, 1));
    }
  }
}

TEST_CASE("permute works far beyond any table") {
  constexpr index_t kSize = (index_t{1} << 40) + 12345;
  std::set<index_t> places;
  for (index_t i = 0; i < 1000; ++i) {
    const index_t place = permute(kSize - 1 - i, kSize, 4, 0);
    CHECK_UNARY(place >= 0);
    CHECK_UNARY(place < kSize);
    places.insert(place);
  }
  CHECK(places.size() == 1000);
}

TEST_CASE("the orders of different epochs and seeds are drawn evenly from all orders") {
  // Chi square over the 720 orders of 6: 719 degrees of freedom, 38 is one sigma.
  constexpr std::uint64_t kDraws = 72000;
  for (const bool by_seed : {false, true}) {
    std::map<std::array<index_t, 6>, int> seen;
    for (std::uint64_t draw = 0; draw < kDraws; ++draw) {
      std::array<index_t, 6> order{};
      for (index_t i = 0; i < 6; ++i) {
        order[i] = by_seed ? permute(i, 6, draw, 0) : permute(i, 6, 1, draw);
      }
      ++seen[order];
    }
    CHECK(seen.size() == 720);
    double chi_square = 0;
    for (const auto& [order, count] : seen) {
      chi_square += (count - kDraws / 720.0) * (count - kDraws / 720.0) / (kDraws / 720.0);
    }
    CHECK(chi_square < 719 + 5 * 38);
  }
}

TEST_CASE("an order keeps no neighbours together") {
  constexpr index_t kSize = 10000;
  int adjacent = 0;
  double distance = 0;
  for (index_t i = 0; i + 1 < kSize; ++i) {
    const index_t step = permute(i + 1, kSize, 2, 0) - permute(i, kSize, 2, 0);
    if (step == 1 || step == -1) ++adjacent;
    distance += static_cast<double>(std::abs(step)) / (kSize - 1);
  }
  CHECK(adjacent < 12);  // 2 expected
  CHECK(distance == doctest::Approx(kSize / 3.0).epsilon(0.03));
}
