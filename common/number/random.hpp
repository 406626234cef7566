#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "common/base/index.hpp"

namespace weir {

/// Random numbers without a generator to keep: every draw is a function of (seed, stream, index),
/// so any rank can make any number of any layout, in any order, and a checkpoint holds no state.
/// Philox4x32-10 (Random123; Salmon et al., SC 2011): key = seed, counter = (index, stream).
/// Give each purpose a stream of its own (stream_of): draws of different kinds out of one stream
/// share bits.

/// The stream of a name, e.g. of a parameter: xxh64 of it.
std::uint64_t stream_of(std::string_view name);

/// The 128 bits at `index`.
std::array<std::uint64_t, 2> random_words(std::uint64_t seed, std::uint64_t stream,
                                          std::uint64_t index);

/// 64 bits: the first half of random_words.
std::uint64_t random_word(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

/// A draw from [0, 1), a multiple of 2^-53.
double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

/// A draw from [0, 1), a multiple of 2^-24. Four successive indices share one block of Philox.
float uniform_float(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

/// out[i] = deviation * z(first_index + i), z ~ N(0, 1) by Box-Muller in double: the two numbers of
/// block k belong to the indices 2k and 2k + 1, so that a range may be filled in any pieces.
void fill_normal(std::span<float> out, std::uint64_t seed, std::uint64_t stream,
                 std::uint64_t first_index, float deviation);

/// The place of `index` in a random order of 0 .. size - 1, one order for each seed and epoch: a
/// permutation without a table. A Feistel network over Philox on the next power of two, walked
/// along its cycle until it is back below size: fewer than two passes on average.
/// 0 <= index < size.
index_t permute(index_t index, index_t size, std::uint64_t seed, std::uint64_t epoch);

}  // namespace weir
