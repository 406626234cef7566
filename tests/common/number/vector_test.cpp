#include "common/number/vector.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "common/number/random.hpp"

using namespace weir;

namespace {

const std::vector<std::size_t> kSizes = {0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 100, 1000, 4099};

std::vector<float> normals(std::size_t size, std::uint64_t seed) {
  std::vector<float> numbers(size);
  fill_normal(numbers, seed, 0, 0, 1);
  return numbers;
}

}  // namespace

TEST_CASE("add_parts adds each part in turn, at any misalignment, and touches no other element") {
  for (const std::size_t size : kSizes) {
    for (const std::size_t shift : {0, 1, 2, 3}) {
      for (const std::size_t part_count : {0, 1, 2, 3, 7}) {
        CAPTURE(size);
        CAPTURE(shift);
        CAPTURE(part_count);
        std::vector<float> sum = normals(size + shift + 5, 1);
        std::vector<float> expected = sum;
        std::vector<std::vector<float>> held;
        std::vector<const float*> parts;
        for (std::size_t part = 0; part < part_count; ++part) {
          held.push_back(normals(size + part, 2 + part));
          parts.push_back(held.back().data() + part);  // each misaligned in its own way
        }
        for (std::size_t i = 0; i < size; ++i) {
          for (const float* part : parts) expected[shift + i] += part[i];
        }
        const double squares = add_parts(std::span(sum).subspan(shift, size), parts);
        CHECK(sum == expected);
        CHECK(squares == square_sum(std::span(expected).subspan(shift, size)));
      }
    }
  }
}

TEST_CASE("square_sum adds in the promised order: the same bits as the order written out") {
  for (const std::size_t size : kSizes) {
    const std::vector<float> numbers = normals(size + 3, 3);
    std::vector<double> sums;
    for (const std::size_t shift : {0, 1, 3}) {
      // The order of the header, one element after the other.
      std::array<double, 16> lane{};
      std::vector<float> moved(numbers.begin(), numbers.begin() + static_cast<long>(size));
      moved.insert(moved.begin(), shift, 100.0F);
      for (std::size_t i = 0; i < size; ++i) {
        lane[i % 16] += static_cast<double>(moved[shift + i]) * moved[shift + i];
      }
      const auto four = [&](std::size_t i) {
        return (lane[i] + lane[i + 8]) + (lane[i + 4] + lane[i + 12]);
      };
      const double expected = (four(0) + four(2)) + (four(1) + four(3));
      CAPTURE(size);
      CHECK(square_sum(std::span(moved).subspan(shift)) == expected);
    }
  }
}

TEST_CASE("square_sum is exact to double precision and does not overflow in float") {
  std::vector<float> numbers = normals(100000, 4);
  long double exact = 0;
  for (const float number : numbers) exact += static_cast<long double>(number) * number;
  CHECK(square_sum(numbers) == doctest::Approx(static_cast<double>(exact)).epsilon(1e-13));
  const std::vector<float> large(4, 3e38F);
  CHECK(square_sum(large) == doctest::Approx(4 * 9e76).epsilon(1e-6));
}
