#include "common/wire/wire.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "common/base/error.hpp"
#include "common/number/random.hpp"

using namespace weir;

namespace {

const std::vector<Wire> kWires = {
    {WireFormat::fp32},    {WireFormat::bf16},       {WireFormat::fp16},      {WireFormat::int8},
    {WireFormat::topk, 1}, {WireFormat::topk, 12.5}, {WireFormat::topk, 100},
};
const std::vector<std::size_t> kSizes = {0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 1000, 40000};

std::vector<float> normals(std::size_t size, std::uint64_t seed, float deviation = 1) {
  std::vector<float> numbers(size);
  fill_normal(numbers, seed, 0, 0, deviation);
  return numbers;
}

std::vector<float> no_residual(const Wire& wire, std::size_t size) {
  return std::vector<float>(wire.keeps_residual() ? size : 0);
}

std::vector<std::byte> encoded(const Wire& wire, const std::vector<float>& values,
                               std::vector<float>& residual) {
  std::vector<std::byte> bytes(wire.bytes(index_t(values.size())));
  encode(wire, values, residual, bytes);
  return bytes;
}

std::vector<float> decoded(const Wire& wire, const std::vector<std::byte>& bytes,
                           std::size_t size) {
  std::vector<float> values(size, 17);
  decode(wire, bytes, values);
  return values;
}

/// Values there and back, with an empty residual.
std::vector<float> sent(const Wire& wire, const std::vector<float>& values) {
  std::vector<float> residual = no_residual(wire, values.size());
  return decoded(wire, encoded(wire, values, residual), values.size());
}

}  // namespace

TEST_CASE("a frame takes the bytes that the format promises") {
  CHECK(Wire{WireFormat::fp32}.bytes(1000) == 4000);
  CHECK(Wire{WireFormat::bf16}.bytes(1000) == 2000);
  CHECK(Wire{WireFormat::bf16}.bytes(1001) == 2004);
  CHECK(Wire{WireFormat::fp16}.bytes(1000) == 2004);
  CHECK(Wire{WireFormat::int8}.bytes(256) == 260);
  CHECK(Wire{WireFormat::int8}.bytes(257) == 268);
  CHECK(Wire{WireFormat::topk, 1}.bytes(1000) == 80);
  CHECK(Wire{WireFormat::topk, 1}.bytes(0) == 0);
}

TEST_CASE("fp32, and topk of everything, send every bit") {
  for (const std::size_t size : kSizes) {
    const std::vector<float> values = normals(size, 1);
    CHECK(sent({WireFormat::fp32}, values) == values);
    CHECK(sent({WireFormat::topk, 100}, values) == values);
  }
}

TEST_CASE("errors stay within the format's bound, whatever the magnitude of the values") {
  for (const std::size_t size : kSizes) {
    for (const float magnitude : {1e-28F, 1e-20F, 1.0F, 1e15F, 1e37F}) {
      CAPTURE(size);
      CAPTURE(magnitude);
      const std::vector<float> values = normals(size, 2, magnitude);
      float largest = 0;
      for (const float value : values) largest = std::max(largest, std::fabs(value));
      std::size_t wrong = 0;
      const std::vector<float> bf16 = sent({WireFormat::bf16}, values);
      for (std::size_t i = 0; i < size; ++i) {
        wrong += std::fabs(bf16[i] - values[i]) > std::fabs(values[i]) * 0x1p-8F;
      }
      CHECK(wrong == 0);
      // Halves have 11 bits down to 2^-14, which is 2^-29 of the largest, and then equal steps.
      const std::vector<float> fp16 = sent({WireFormat::fp16}, values);
      for (std::size_t i = 0; i < size; ++i) {
        wrong += std::fabs(fp16[i] - values[i]) >
                 std::max(std::fabs(values[i]) * 0x1p-11F, largest * 0x1p-39F);
      }
      CHECK(wrong == 0);
      const std::vector<float> int8 = sent({WireFormat::int8}, values);
      for (std::size_t i = 0; i < size; ++i) {
        wrong += std::fabs(int8[i] - values[i]) > largest / 253.99F;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("fp16 does not overflow where the largest is just below a power of two, or subnormal") {
  for (const float largest : {0x1.ffcp127F, 0x1.ffffffp0F, 0x1.fffffep-100F,
                              std::numeric_limits<float>::denorm_min(), 1e-40F}) {
    const std::vector<float> values = {largest, -largest, largest / 2, 0};
    for (const float value : sent({WireFormat::fp16}, values)) {
      CHECK(std::fabs(value) <= 1.0005 * double(largest));
    }
  }
  CHECK(sent({WireFormat::fp16}, {0x1p-110F, -0x1p-126F})[1] == -0x1p-126F);
}

TEST_CASE("adding what arrives has the bits of reading it and then adding") {
  for (const Wire& wire : kWires) {
    for (const std::size_t size : kSizes) {
      CAPTURE(int(wire.format));
      CAPTURE(size);
      std::vector<float> residual = no_residual(wire, size);
      const std::vector<std::byte> bytes = encoded(wire, normals(size, 3), residual);
      std::vector<float> sum = normals(size, 4), expected = sum;
      decode_add(wire, bytes, sum);
      const std::vector<float> read = decoded(wire, bytes, size);
      for (std::size_t i = 0; i < size; ++i) expected[i] += read[i];
      CHECK(sum == expected);
    }
  }
}

TEST_CASE("what was sent plus the residual is the sum of the gradients, over many random steps") {
  const std::uint64_t seed = std::random_device()();
  CAPTURE(seed);
  for (const Wire& wire : kWires) {
    if (!wire.keeps_residual()) continue;
    for (const std::size_t size : {1, 257, 5000}) {
      CAPTURE(int(wire.format));
      CAPTURE(wire.topk_percent);
      CAPTURE(size);
      std::vector<float> residual(size);
      std::vector<double> given(size), arrived(size), magnitudes(size);
      constexpr int kSteps = 300;
      for (int step = 0; step < kSteps; ++step) {
        std::vector<float> gradient(size);
        // Steps of very different size, and elements with a mean.
        fill_normal(gradient, seed, std::uint64_t(step), 0,
                    std::ldexp(1.0F, int(random_word(seed, 99, std::uint64_t(step)) % 10)));
        for (std::size_t i = 0; i < size; ++i) gradient[i] += float(i % 7);
        const std::vector<std::byte> bytes = encoded(wire, gradient, residual);
        const std::vector<float> read = decoded(wire, bytes, size);
        for (std::size_t i = 0; i < size; ++i) {
          given[i] += double(gradient[i]);
          arrived[i] += double(read[i]);
          magnitudes[i] += std::fabs(double(gradient[i])) + 2 * std::fabs(double(residual[i])) +
                           std::fabs(double(read[i]));
        }
      }
      // A step rounds twice: the sum with the residual, and what is left of it.
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < size; ++i) {
        wrong += std::fabs(arrived[i] + double(residual[i]) - given[i]) > magnitudes[i] * 0x1p-23;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("topk sends every element in the end: no residual grows without bound") {
  const Wire wire = {WireFormat::topk, 5};
  const std::vector<float> gradient = normals(1000, 6);
  std::vector<float> residual(gradient.size());
  std::vector<double> arrived(gradient.size());
  constexpr int kSteps = 2000;
  for (int step = 0; step < kSteps; ++step) {
    const std::vector<float> read =
        decoded(wire, encoded(wire, gradient, residual), gradient.size());
    for (std::size_t i = 0; i < read.size(); ++i) arrived[i] += double(read[i]);
  }
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    CHECK(arrived[i] / kSteps == doctest::Approx(gradient[i]).epsilon(0.05).scale(0.3));
  }
}

TEST_CASE("NaN and infinity arrive as not finite in every format, and poison no residual") {
  const float bad_values[] = {std::numeric_limits<float>::quiet_NaN(),
                              std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity()};
  for (const Wire& wire : kWires) {
    for (const float bad : bad_values) {
      for (const std::size_t size : {1, 256, 257, 1000}) {
        for (const std::size_t at : {std::size_t(0), size / 2, size - 1}) {
          CAPTURE(int(wire.format));
          CAPTURE(size);
          std::vector<float> residual = no_residual(wire, size);
          encoded(wire, normals(size, 7), residual);
          const std::vector<float> before = residual;
          std::vector<float> values = normals(size, 8);
          values[at] = bad;
          const std::vector<std::byte> bytes = encoded(wire, values, residual);
          const auto finite = [](float value) { return std::isfinite(value); };
          CHECK_FALSE(std::ranges::all_of(decoded(wire, bytes, size), finite));
          std::vector<float> sum = normals(size, 9);
          decode_add(wire, bytes, sum);
          CHECK_FALSE(std::ranges::all_of(sum, finite));
          CHECK(std::ranges::all_of(residual, finite));
          if (wire.keeps_residual()) CHECK(residual[at] == before[at]);
          // And the next one is as good as ever.
          CHECK(std::ranges::all_of(decoded(wire, encoded(wire, normals(size, 10), residual), size),
                                    finite));
        }
      }
    }
  }
}

TEST_CASE("many values that are not finite poison no residual") {
  for (const Wire& wire : kWires) {
    if (!wire.keeps_residual()) continue;
    std::vector<float> residual(700, 0.25F);
    encoded(wire, std::vector<float>(700, std::numeric_limits<float>::quiet_NaN()), residual);
    CHECK(residual == std::vector<float>(700, 0.25F));
  }
}

TEST_CASE("a format that costs more than a percent of the loss, or more bytes than fp32, says so") {
  for (const Wire& push : kWires) {
    const std::string warning = warning_of({push, {WireFormat::bf16}});
    CAPTURE(warning);
    CHECK(warning.empty() == (push.format != WireFormat::topk));
  }
  CHECK(warning_of({{WireFormat::topk, 1}, {}}).find("sends 1 % of the gradients") !=
        std::string::npos);
  CHECK(warning_of({{WireFormat::topk, 60}, {}}).find("more bytes than fp32") != std::string::npos);
}

TEST_CASE("a topk frame with an index out of range is refused") {
  const Wire wire = {WireFormat::topk, 1};
  std::vector<float> residual(500);
  std::vector<std::byte> bytes = encoded(wire, normals(500, 11), residual);
  const std::uint32_t index = 500;
  std::memcpy(bytes.data() + 4, &index, 4);
  std::vector<float> values(500);
  CHECK_THROWS_WITH_AS(decode(wire, bytes, values),
                       doctest::Contains("of 500 elements: it has one at 500"), Error);
  CHECK_THROWS_AS(decode_add(wire, bytes, values), Error);
}

TEST_CASE("unknown formats, and topk of nothing or of more than everything, are refused") {
  const auto parse = [](const std::vector<std::string>& arguments) {
    WireConfig config;
    parse_options(options(config), std::nullopt, {}, arguments);
    return config;
  };
  CHECK(parse({}).push == Wire());
  CHECK(parse({"--wire-push", "topk", "--topk-percent", "0.5"}).push ==
        Wire{WireFormat::topk, 0.5});
  CHECK(parse({"--wire-pull=bf16"}).pull.format == WireFormat::bf16);
  CHECK(parse({"--wire-pull=fp16"}).pull.format == WireFormat::fp16);
  CHECK(parse({"--wire-pull=int8"}).pull.format == WireFormat::int8);
  CHECK_THROWS_WITH_AS(parse({"--wire-push", "fp8"}), doctest::Contains("fp8"), UsageError);
  CHECK_THROWS_AS(parse({"--wire-pull", "topk"}), UsageError);
  CHECK_THROWS_WITH_AS(parse({"--topk-percent", "100.5"}), doctest::Contains("topk-percent"),
                       UsageError);
  CHECK_THROWS_AS(parse({"--topk-percent", "0"}), UsageError);
  CHECK_THROWS_AS(parse({"--topk-percent", "-1"}), UsageError);
}
