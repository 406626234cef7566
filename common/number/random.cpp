#include "common/number/random.hpp"

#include <Random123/philox.h>
#include <xxhash.h>

#include <Random123/boxmuller.hpp>
#include <bit>

#include "common/base/error.hpp"

namespace weir {
namespace {

using Philox = r123::Philox4x32_R<10>;

std::uint32_t low(std::uint64_t word) { return static_cast<std::uint32_t>(word); }
std::uint32_t high(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }

Philox::ctr_type block(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const Philox::ctr_type counter = {{low(index), high(index), low(stream), high(stream)}};
  const Philox::key_type key = {{low(seed), high(seed)}};
  return Philox()(counter, key);
}

std::uint64_t joined(std::uint32_t low, std::uint32_t high) {
  return std::uint64_t{high} << 32 | low;
}

float to_unit(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24F; }

}  // namespace

std::uint64_t stream_of(std::string_view name) { return XXH64(name.data(), name.size(), 0); }

std::array<std::uint64_t, 2> random_words(std::uint64_t seed, std::uint64_t stream,
                                          std::uint64_t index) {
  const auto words = block(seed, stream, index);
  return {joined(words[0], words[1]), joined(words[2], words[3])};
}

std::uint64_t random_word(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return random_words(seed, stream, index)[0];
}

double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return static_cast<double>(random_word(seed, stream, index) >> 11) * 0x1p-53;
}

float uniform_float(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return to_unit(block(seed, stream, index / 4)[index % 4]);
}

void fill_normal(std::span<float> out, std::uint64_t seed, std::uint64_t stream,
                 std::uint64_t first_index, float deviation) {
  std::size_t done = 0;
  while (done < out.size()) {
    const std::uint64_t index = first_index + done;
    const auto words = random_words(seed, stream, index / 2);
    const r123::double2 pair = r123::boxmuller(words[0], words[1]);
    if (index % 2 == 0) out[done++] = static_cast<float>(pair.x * deviation);
    if (done < out.size()) out[done++] = static_cast<float>(pair.y * deviation);
  }
}

index_t permute(index_t index, index_t size, std::uint64_t seed, std::uint64_t epoch) {
  WEIR_ASSERT(0 <= index && index < size);
  if (size == 1) return 0;
  // Chi square over all orders of 6 elements is 3126 with 12 rounds and 974 with 16; for a uniform
  // draw about 719 is expected.
  constexpr std::uint64_t kRounds = 24;
  static const std::uint64_t first_stream = stream_of("permutation");
  const auto bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(size - 1)));
  const int right_bits = (bits + 1) / 2;
  const int left_bits = bits / 2;
  const std::uint64_t left_mask = (std::uint64_t{1} << left_bits) - 1;
  const std::uint64_t right_mask = (std::uint64_t{1} << right_bits) - 1;
  auto place = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = place >> right_bits;
    std::uint64_t right = place & right_mask;
    for (std::uint64_t round = 0; round < kRounds; round += 2) {
      left ^= random_word(seed, first_stream + epoch, round << 32 | right) & left_mask;
      right ^= random_word(seed, first_stream + epoch, (round + 1) << 32 | left) & right_mask;
    }
    place = left << right_bits | right;
  } while (place >= static_cast<std::uint64_t>(size));
  return static_cast<index_t>(place);
}

}  // namespace weir
