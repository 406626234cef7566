#include "worker/layers/dropout.hpp"

#include <doctest/doctest.h>

#include <string>

#include "common/number/random.hpp"
#include "tests/worker/layers/rig.hpp"

using namespace weir;
using namespace weir::test;

namespace {

/// Dropout of ones: zeros where dropped.
std::vector<float> dropped(double rate, const std::string& layer, std::uint64_t seed, bool training,
                           std::vector<index_t> samples) {
  constexpr index_t kLength = 40;
  constexpr index_t kWidth = 25;
  worker::CpuKernels kernels;
  worker::SingleShard alone;
  worker::SingleContext whole;
  const auto rows = static_cast<index_t>(samples.size()) * kLength;
  const std::vector<index_t> lengths(samples.size(), kLength);
  std::vector<float> values(rows * kWidth, 1);
  const worker::MicroBatch batch = {
      static_cast<index_t>(samples.size()), kLength, {}, lengths, samples};
  worker::Dropout{rate, stream_of(layer)}.apply({kernels, alone, whole, {}, {}, seed, training},
                                                batch, matrix(values, rows));
  return values;
}

}  // namespace

TEST_CASE("dropout keeps 1 - rate of the features and scales them by 1 / (1 - rate)") {
  const std::vector<float> values = dropped(0.3, "a", 1, true, {1, 2, 3, 4, 5});
  double kept = 0;
  for (const float value : values) {
    CHECK_UNARY(value == 0 || value == doctest::Approx(1 / 0.7));
    kept += value > 0 ? 1 : 0;
  }
  const double size = static_cast<double>(values.size());
  CHECK(std::abs(kept / size - 0.7) < 5 * std::sqrt(0.3 * 0.7 / size));
}

TEST_CASE("dropout is off in evaluation and at rate 0") {
  const std::vector<float> ones(1000, 1);
  CHECK(dropped(0.3, "a", 1, false, {1}) == ones);
  CHECK(dropped(0, "a", 1, true, {1}) == ones);
}

TEST_CASE("the mask follows from seed, layer and sample, not from the place in the batch") {
  const std::vector<float> first = dropped(0.5, "a", 1, true, {8});
  const std::vector<float> both = dropped(0.5, "a", 1, true, {9, 8});
  CHECK(std::vector<float>(both.begin() + 1000, both.end()) == first);
  CHECK(std::vector<float>(both.begin(), both.begin() + 1000) != first);
  CHECK(dropped(0.5, "b", 1, true, {8}) != first);
  CHECK(dropped(0.5, "a", 2, true, {8}) != first);
}
