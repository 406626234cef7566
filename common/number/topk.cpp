#include "common/number/topk.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "common/base/error.hpp"
#include "common/number/narrow.hpp"
#include "common/number/vector.hpp"

namespace weir {
namespace {

std::uint32_t magnitude_of(float value) { return std::bit_cast<std::uint32_t>(value) & 0x7fffffff; }

/// Element and rank in one number: in descending order of these, larger magnitudes come first, and
/// of equal ones lower indices.
std::uint64_t rank_key(float value, std::size_t index) {
  return std::uint64_t{magnitude_of(value)} << 32 | (0xffffffff - index);
}

/// A magnitude that probably a few more than `kept` elements reach. Only speed depends on it.
std::uint32_t likely_threshold(std::span<const float> values, std::size_t kept) {
  constexpr std::size_t kStride = 61;  // prime: matrices have rows of powers of two
  std::vector<std::uint32_t> sample;
  for (std::size_t i = 0; i < values.size(); i += kStride) {
    sample.push_back(magnitude_of(values[i]));
  }
  // So many of the sample are expected above, and four deviations more.
  const double expected = static_cast<double>(kept) / static_cast<double>(kStride);
  const auto rank = static_cast<std::size_t>(expected + 4 * std::sqrt(expected) + 4);
  if (rank >= sample.size()) return 0;
  const auto at = sample.begin() + static_cast<std::ptrdiff_t>(rank);
  std::ranges::nth_element(sample, at, std::greater{});
  return *at;
}

/// The keys of all elements that reach the threshold, in the order of their indices.
std::vector<std::uint64_t> keys_above(std::span<const float> values, std::uint32_t threshold) {
  std::vector<std::uint64_t> keys;
  constexpr std::size_t kRun = 64;  // most have none: looked at as a whole
  for (std::size_t begin = 0; begin < values.size(); begin += kRun) {
    const std::size_t end = std::min(begin + kRun, values.size());
    if (largest_magnitude(values.subspan(begin, end - begin)) < threshold) continue;
    for (std::size_t i = begin; i < end; ++i) {
      if (magnitude_of(values[i]) >= threshold) keys.push_back(rank_key(values[i], i));
    }
  }
  return keys;
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
  add(residual, values);
  if (kept.empty()) return;
  std::vector<std::uint64_t> keys = keys_above(residual, likely_threshold(residual, kept.size()));
  if (keys.size() < kept.size()) keys = keys_above(residual, 0);
  std::vector<std::uint64_t> ranked = keys;
  const auto last = ranked.begin() + static_cast<std::ptrdiff_t>(kept.size() - 1);
  std::ranges::nth_element(ranked, last, std::greater{});
  std::size_t taken = 0;
  for (const std::uint64_t key : keys) {
    if (key < *last) continue;
    const auto index = static_cast<std::uint32_t>(0xffffffff - (key & 0xffffffff));
    indices[taken] = index;
    kept[taken] = residual[index];
    residual[index] = 0;
    ++taken;
  }
  WEIR_ASSERT(taken == kept.size());
}

}  // namespace weir
