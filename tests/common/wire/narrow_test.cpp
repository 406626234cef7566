#include "common/wire/narrow.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "common/number/random.hpp"

using namespace weir;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// A 16-bit float with so many bits of mantissa, as the standard defines it.
struct Half {
  int mantissa_bits;
  int bias;

  double value(std::uint32_t bits) const {
    const std::uint32_t fraction = bits & ((1U << mantissa_bits) - 1);
    const int exponent = static_cast<int>((bits & 0x7fff) >> mantissa_bits);
    const int top = (1 << (15 - mantissa_bits)) - 1;
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    if (exponent == top) return fraction == 0 ? sign * kInfinity : kNan;
    const double significand = std::ldexp(fraction, -mantissa_bits) + (exponent == 0 ? 0 : 1);
    return sign * std::ldexp(significand, std::max(exponent, 1) - bias);
  }
  std::uint32_t infinity() const {
    return static_cast<std::uint32_t>((1 << (15 - mantissa_bits)) - 1) << mantissa_bits;
  }
  /// The nearest, of two the even one; infinity counts as the number that would come next.
  std::uint32_t nearest(double value) const {
    std::uint32_t low = 0, high = infinity();
    const double magnitude = std::fabs(value);
    while (low + 1 < high) {
      const std::uint32_t middle = (low + high) / 2;
      (this->value(middle) <= magnitude ? low : high) = middle;
    }
    const double step = this->value(low) - this->value(low - (low > 0 ? 1 : 0));
    const double above = high == infinity() ? this->value(low) + step : this->value(high);
    const double to_low = magnitude - this->value(low), to_high = above - magnitude;
    const bool up = to_high < to_low || (to_high == to_low && high % 2 == 0);
    return (up ? high : low) | (std::signbit(value) ? 0x8000U : 0U);
  }
};

constexpr Half kBf16 = {.mantissa_bits = 7, .bias = 127};
constexpr Half kFp16 = {.mantissa_bits = 10, .bias = 15};

std::vector<std::uint16_t> all_halves() {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  return halves;
}

/// Every half, the middles between neighbours, and the floats right below and above those.
std::vector<float> where_rounding_changes(const Half& half) {
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < half.infinity(); ++bits) {
    const double low = half.value(bits);
    const bool last = bits + 1 == half.infinity();
    const double high = last ? 2 * low - half.value(bits - 1) : half.value(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    for (const float value : {static_cast<float>(low), std::nextafter(middle, 0.0F), middle,
                              std::nextafter(middle, kInfinity)}) {
      values.push_back(value);
      values.push_back(-value);
    }
  }
  return values;
}

void check_all(const Half& half, const std::vector<float>& values,
               const std::vector<std::uint16_t>& found) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (found[i] == half.nearest(values[i])) continue;
    if (wrong++ > 5) continue;
    CAPTURE(values[i]);
    CHECK(found[i] == half.nearest(values[i]));
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("every bf16 is read as the number it stands for, and written back as itself") {
  const std::vector<std::uint16_t> halves = all_halves();
  std::vector<float> values(halves.size());
  from_bf16(halves, values);
  std::vector<std::uint16_t> back(halves.size());
  to_bf16(values, back);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const double expected = kBf16.value(halves[i]);
    const bool nan = std::isnan(expected);
    wrong += nan ? !std::isnan(values[i]) || !std::isnan(kBf16.value(back[i]))
                 : values[i] != expected || back[i] != halves[i];
  }
  CHECK(wrong == 0);
}

TEST_CASE("every fp16 is read as the number it stands for, and written back as itself") {
  const std::vector<std::uint16_t> halves = all_halves();
  std::vector<float> values(halves.size());
  from_fp16(halves, 1, values);
  std::vector<std::uint16_t> back(halves.size());
  to_fp16(values, 1, back);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const double expected = kFp16.value(halves[i]);
    const bool nan = std::isnan(expected);
    wrong += nan ? !std::isnan(values[i]) || !std::isnan(kFp16.value(back[i]))
                 : values[i] != expected || back[i] != halves[i];
  }
  CHECK(wrong == 0);
}

TEST_CASE("bf16 and fp16 round to the nearest, and ties to even, wherever rounding changes") {
  std::vector<float> values = where_rounding_changes(kBf16);
  std::vector<std::uint16_t> halves(values.size());
  to_bf16(values, halves);
  check_all(kBf16, values, halves);

  values = where_rounding_changes(kFp16);
  halves.resize(values.size());
  to_fp16(values, 1, halves);
  check_all(kFp16, values, halves);
}

TEST_CASE("bf16 and fp16 round random numbers of all magnitudes to the nearest") {
  std::vector<float> values(200000);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = static_cast<std::uint32_t>(random_word(1, 1, i));
    const float value = std::bit_cast<float>(bits);
    values[i] = std::isnan(value) ? 0 : value;
  }
  std::vector<std::uint16_t> halves(values.size());
  std::vector<float> finite = values;
  std::erase_if(finite, [](float value) { return std::isinf(value); });
  halves.resize(finite.size());
  to_bf16(finite, halves);
  check_all(kBf16, finite, halves);
  to_fp16(finite, 1, halves);
  for (float& value : finite) {
    // Beyond the number that would come after the largest, nearest() knows no infinity.
    value = std::clamp(value, -65536.0F, 65536.0F);
  }
  check_all(kFp16, finite, halves);
}

TEST_CASE("infinity and NaN keep their kind in bf16 and fp16, whatever their bits") {
  std::vector<float> values = {kInfinity, -kInfinity, kNan, -kNan};
  for (const std::uint32_t bits : {0x7f800001U, 0xff800001U, 0x7fffffffU, 0xffffffffU}) {
    values.push_back(std::bit_cast<float>(bits));
  }
  std::vector<std::uint16_t> halves(values.size());
  for (const bool brain : {true, false}) {
    brain ? to_bf16(values, halves) : to_fp16(values, 1, halves);
    const Half& half = brain ? kBf16 : kFp16;
    CHECK(half.value(halves[0]) == kInfinity);
    CHECK(half.value(halves[1]) == -kInfinity);
    for (std::size_t i = 2; i < values.size(); ++i) CHECK(std::isnan(half.value(halves[i])));
  }
}

TEST_CASE("a scale of fp16 is exact both ways where it is a power of two") {
  std::vector<float> values(4099), back(values.size());
  fill_normal(values, 2, 0, 0, 1e-30F);
  std::vector<std::uint16_t> halves(values.size());
  to_fp16(values, 0x1p110F, halves);
  from_fp16(halves, 0x1p-110F, back);
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(std::fabs(back[i] - values[i]) <= std::fabs(values[i]) * 0x1p-11F);
  }
}

TEST_CASE("adding has the bits of reading and then adding") {
  for (const std::size_t size : {0, 1, 7, 255, 256, 257, 1000, 4099}) {
    std::vector<float> values(size), before(size), read(size);
    fill_normal(values, 3, 0, 0, 1);
    fill_normal(before, 3, 1, 0, 1);
    std::vector<std::uint16_t> halves(size);
    const auto check = [&](const std::vector<float>& sum) {
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < size; ++i) wrong += sum[i] != before[i] + read[i];
      CHECK(wrong == 0);
    };
    std::vector<float> sum = before;
    to_bf16(values, halves);
    from_bf16(halves, read);
    add_bf16(halves, sum);
    check(sum);
    sum = before;
    to_fp16(values, 1024, halves);
    from_fp16(halves, 0x1p-10F, read);
    add_fp16(halves, 0x1p-10F, sum);
    check(sum);
    sum = before;
    std::vector<float> residual(size), scales((size + 255) / 256);
    std::vector<std::int8_t> quanta(size);
    to_int8(values, residual, scales, quanta);
    from_int8(scales, quanta, read);
    add_int8(scales, quanta, sum);
    check(sum);
  }
}

TEST_CASE("int8: each block has its own scale, errors are half of it at most, and are kept") {
  for (const std::size_t size : {1, 255, 256, 257, 511, 512, 513, 3000}) {
    CAPTURE(size);
    std::vector<float> values(size), before(size);
    fill_normal(values, 4, 0, 0, 1);
    fill_normal(before, 4, 1, 0, 0.01F);
    for (std::size_t i = 0; i < size; ++i) values[i] *= std::ldexp(1.0F, int(i / 256) * 15 - 60);
    std::vector<float> residual = before, scales((size + 255) / 256), read(size);
    for (float& value : residual) value *= 0x1p-60F;
    before = residual;
    std::vector<std::int8_t> quanta(size);
    to_int8(values, residual, scales, quanta);
    from_int8(scales, quanta, read);
    for (std::size_t block = 0; block < scales.size(); ++block) {
      const std::size_t end = std::min(size, (block + 1) * 256);
      float largest = 0;
      int largest_quantum = 0;
      for (std::size_t i = block * 256; i < end; ++i) {
        const float sum = values[i] + before[i];
        largest = std::max(largest, std::fabs(sum));
        largest_quantum = std::max(largest_quantum, std::abs(int(quanta[i])));
        CHECK(read[i] == float(quanta[i]) * scales[block]);
        CHECK(residual[i] == sum - read[i]);
        CHECK(std::fabs(residual[i]) <= scales[block] * 0.50001F);
      }
      CHECK(scales[block] == largest / 127);
      CHECK(largest_quantum == 127);
    }
  }
}

TEST_CASE("int8: what is too small to be divided stays in the residual; zeros stay zeros") {
  const std::vector<float> values = {1e-40F, -1e-35F, 0, 1e-38F};
  std::vector<float> residual(4), scales(1), read(4);
  std::vector<std::int8_t> quanta(4);
  to_int8(values, residual, scales, quanta);
  from_int8(scales, quanta, read);
  CHECK(read == std::vector<float>(4));
  CHECK(residual == values);
}

TEST_CASE("int8: what could overflow is sent as NaN and leaves the residual as it was") {
  const float largest = std::numeric_limits<float>::max();
  const auto read_back = [](std::vector<float> values, std::vector<float>& residual) {
    std::vector<float> scales(1), read(values.size());
    std::vector<std::int8_t> quanta(values.size());
    to_int8(values, residual, scales, quanta);
    from_int8(scales, quanta, read);
    return read;
  };
  std::vector<float> residual(2);
  const std::vector<float> read = read_back({0x1.fffffep126F, -0x1p126F}, residual);
  CHECK(read[0] == doctest::Approx(0x1p127));
  CHECK(read[1] == doctest::Approx(-0x1p126).epsilon(0.01));
  CHECK(std::isfinite(residual[0]));
  for (const std::vector<float>& before : {std::vector<float>{largest, 1}, {0, 1}}) {
    residual = before;
    CHECK(std::isnan(read_back({largest, 1}, residual)[0]));
    CHECK(residual == before);
  }
}

TEST_CASE("the largest magnitude orders NaN above infinity above all numbers") {
  std::vector<float> values(1000);
  CHECK(largest_magnitude({}) == 0);
  CHECK(largest_magnitude(values) == 0);
  values[997] = -3;
  CHECK(largest_magnitude(values) == std::bit_cast<std::uint32_t>(3.0F));
  values[3] = -kInfinity;
  CHECK(largest_magnitude(values) == kNonFinite);
  values[500] = kNan;
  CHECK(largest_magnitude(values) > kNonFinite);
  const std::vector<float> left = {1, 3e38F, -5}, right = {2, 3e38F, 1};
  CHECK(largest_magnitude_of_sum(left, right) == kNonFinite);
  CHECK(largest_magnitude_of_sum(std::span(left).first(1), std::span(right).first(1)) ==
        std::bit_cast<std::uint32_t>(3.0F));
}

TEST_CASE("magnitudes are found where they are, in order, and no others") {
  for (const std::size_t size : {0, 1, 31, 32, 33, 1000}) {
    std::vector<float> values(size);
    fill_normal(values, 5, 0, 0, 1);
    for (const float least : {0.0F, 0.1F, 1.0F, 3.0F, 100.0F}) {
      std::vector<std::uint32_t> expected, found(size);
      for (std::size_t i = 0; i < size; ++i) {
        if (std::fabs(values[i]) >= least) expected.push_back(static_cast<std::uint32_t>(i));
      }
      found.resize(find_magnitudes(values, std::bit_cast<std::uint32_t>(least), found));
      CHECK(found == expected);
    }
  }
}
