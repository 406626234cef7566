#include "common/wire/topk.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "common/base/error.hpp"
#include "common/number/vector.hpp"
#include "common/wire/narrow.hpp"

namespace weir {
namespace {

std::uint32_t magnitude_of(float value) { return std::bit_cast<std::uint32_t>(value) & 0x7fffffff; }

/// A magnitude, and how many of those equal to it belong to the largest.
struct Smallest {
  std::uint32_t magnitude = 0;
  std::size_t equal_count = 0;
};

/// The smallest of the `count` largest. Found digit by digit (11, 10 and 10 bits), since sorting
/// would take longer.
Smallest smallest_of_largest(std::vector<std::uint32_t> magnitudes, std::size_t count) {
  std::uint32_t chosen = 0;
  for (const auto& [shift, bits] : {std::pair{20, 11}, std::pair{10, 10}, std::pair{0, 10}}) {
    std::array<std::uint32_t, 2048> counts{};
    const std::uint32_t mask = (1U << bits) - 1;
    for (const std::uint32_t each : magnitudes) ++counts[(each >> shift) & mask];
    std::uint32_t digit = mask;
    while (counts[digit] < count) count -= counts[digit--];
    chosen |= digit << shift;
    std::erase_if(magnitudes, [&](std::uint32_t each) { return each >> shift != chosen >> shift; });
  }
  return {chosen, count};
}

/// A magnitude that a few more than `kept` elements probably reach. Only speed depends on it.
std::uint32_t likely_threshold(std::span<const float> values, std::size_t kept) {
  constexpr std::size_t kStride = 61;  // prime: matrices have rows of powers of two
  std::vector<std::uint32_t> sample;
  for (std::size_t i = 0; i < values.size(); i += kStride) {
    sample.push_back(magnitude_of(values[i]));
  }
  // The number of samples expected above the threshold, plus four standard deviations.
  const double expected = static_cast<double>(kept) / static_cast<double>(kStride);
  const auto rank = static_cast<std::size_t>(expected + 4 * std::sqrt(expected) + 4);
  return rank > sample.size() ? 0 : smallest_of_largest(std::move(sample), rank).magnitude;
}

}  // namespace

index_t topk_kept(index_t count, double percent) {
  const double exact = std::ceil(static_cast<double>(count) * percent / 100);
  return std::min(count, static_cast<index_t>(exact));
}

void take_topk(std::span<const float> values, std::span<float> residual,
               std::span<std::uint32_t> indices, std::span<float> kept) {
  WEIR_ASSERT(residual.size() == values.size() && kept.size() == indices.size());
  WEIR_ASSERT(kept.size() <= values.size());
  WEIR_ASSERT(values.size() <= std::numeric_limits<std::uint32_t>::max());
  if (largest_magnitude_of_sum(values, residual) >= kNonFinite) {
    std::iota(indices.begin(), indices.end(), 0U);
    std::ranges::fill(kept, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  // From here on the residual holds values + residual, out of which the kept elements are taken.
  // From here on the residual holds values + residual, out of which the kept elements are taken.
  // From here on the residual holds values + residual, out of which the kept elements are taken.
  const float* const part[] = {values.data()};
  add_parts(residual, part);
  if (kept.empty()) return;
  // The guessed threshold leaves few candidates; if it was too high, every element is one.
  // The guessed threshold leaves few candidates; if it was too high, every element is one.
  // The guessed threshold leaves few candidates; if it was too high, every element is one.
  const auto room = std::make_unique_for_overwrite<std::uint32_t[]>(residual.size());
  std::span<std::uint32_t> candidates(room.get(), residual.size());
  std::size_t found =
      find_magnitudes(residual, likely_threshold(residual, kept.size()), candidates);
  if (found < kept.size()) found = find_magnitudes(residual, 0, candidates);
  candidates = candidates.first(found);
  std::vector<std::uint32_t> magnitudes;
  magnitudes.reserve(found);
  for (const std::uint32_t index : candidates) magnitudes.push_back(magnitude_of(residual[index]));
  auto [smallest, equal_count] = smallest_of_largest(std::move(magnitudes), kept.size());
  // All above the smallest are taken, and the first `equal_count` of those equal to it.
  // All above the smallest are taken, and the first `equal_count` of those equal to it.
  // All above the smallest are taken, and the first `equal_count` of those equal to it.
  std::size_t taken = 0;
  for (const std::uint32_t index : candidates) {
    const std::uint32_t magnitude = magnitude_of(residual[index]);
    if (magnitude < smallest) continue;
    if (magnitude == smallest) {
      if (equal_count == 0) continue;
      --equal_count;
    }
    indices[taken] = index;
    kept[taken] = residual[index];
    residual[index] = 0;
    ++taken;
  }
  WEIR_ASSERT(taken == kept.size());
}

}  // namespace weir
