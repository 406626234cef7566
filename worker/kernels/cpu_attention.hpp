#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>

#include "common/base/error.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

// How attention is cut on the CPU. A tile is 16 successive queries: with a window of 16 two thirds
// of its products are of use, with wider tiles less. Its keys are the globals and one band. Tiles
// are done in strips; of each head, a strip's keys and values are first packed into a panel, as in
// qkv its rows are 3 * heads * C apart, which few rows fill a cache with.
// A global query of the bidirectional form sees all keys: its tile takes from each strip the keys
// that the strip owns, and carries its sums from strip to strip.

constexpr index_t kTile = 16;
constexpr index_t kStrip = 128;
constexpr index_t kTilesAStrip = kStrip / kTile;

struct PrefixKeys {
  index_t global_end;
  index_t band_begin;
  index_t band_end;
};
inline PrefixKeys prefix_keys(index_t query, index_t length, const Sparsity& sparsity) {
  const index_t globals = sparsity.globals.count();
  const index_t last = sparsity.causal ? std::min(length, query + 1) : length;
  const index_t global_end = std::min(globals, last);
  if (query < globals) return {global_end, global_end, std::max(global_end, last)};
  const index_t begin = std::max(global_end, query - sparsity.left);
  const index_t end = std::min(last, query + sparsity.right + 1);
  return {global_end, begin, std::max(begin, end)};
}

/// One sample of the micro-batch.
struct AttentionSample {
  ConstMatrix qkv;  ///< [N, 3 * heads * C]
  index_t heads;
  index_t length;  ///< tokens before padding
  Sparsity sparsity;

  index_t tokens() const { return qkv.extent(0); }
  index_t width() const { return qkv.extent(1) / 3; }
  index_t channels() const { return width() / heads; }
  /// Queries below see all keys and are done apart.
  index_t global_queries() const {
    return sparsity.causal ? 0 : std::min(sparsity.globals.count(), tokens());
  }
};

/// The backward of one sample: where its parts begin.
struct AttentionBackward {
  AttentionSample sample;
  const float* out;           ///< [N, heads * C]
  const float* log_sum;       ///< [heads, N]
  const float* out_gradient;  ///< as out
  float* qkv_gradient;        ///< as qkv
};

/// A run of tokens.
struct Run {
  index_t begin = 0;
  index_t end = 0;

  index_t size() const { return end - begin; }
  bool holds(index_t token) const { return begin <= token && token < end; }
};

inline Run overlap(Run a, Run b) {
  const index_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

/// Keys of one or several queries: global_end and the band of VisibleKeys, taken together.
struct Keys {
  Run globals;
  Run band;

  index_t size() const { return globals.size() + band.size(); }
  void include(Run more) {
    if (more.size() == 0) return;
    if (band.size() == 0) band = more;
    band = {std::min(band.begin, more.begin), std::max(band.end, more.end)};
  }
};

/// Up to kTile queries and whom each of them sees. Lanes behind `count` repeat the last query.
struct Tile {
  index_t first;
  index_t count;
  Keys some;           ///< seen by at least one of the queries
  Keys every;          ///< seen by every one: these scores need no mask
  bool blind = false;  ///< some query sees nothing
  std::array<std::int32_t, kTile> global_end;
  std::array<std::int32_t, kTile> band_begin;
  std::array<std::int32_t, kTile> band_end;

  Tile() = default;
  Tile(index_t first_query, index_t end_query, const AttentionSample& sample)
      : first(first_query), count(std::min(kTile, end_query - first_query)) {
    for (index_t lane = 0; lane < kTile; ++lane) {
      const PrefixKeys keys =
          prefix_keys(first + std::min(lane, count - 1), sample.length, sample.sparsity);
      const Run globals{0, keys.global_end};
      const Run band{keys.band_begin, keys.band_end};
      const auto at = static_cast<std::size_t>(lane);
      global_end[at] = static_cast<std::int32_t>(globals.end);
      band_begin[at] = static_cast<std::int32_t>(band.begin);
      band_end[at] = static_cast<std::int32_t>(band.end);
      some.globals.end = std::max(some.globals.end, globals.end);
      some.include(band);
      every.globals = lane == 0 ? globals : overlap(every.globals, globals);
      every.band = lane == 0 ? band : overlap(every.band, band);
      blind = blind || globals.size() + band.size() == 0;
    }
  }
};

/// The tiles of one strip and the keys that its panels hold.
struct Strip {
  Run tokens;
  Keys keys;

  Strip(index_t begin, const AttentionSample& sample)
      : tokens{begin, std::min(begin + kStrip, sample.tokens())} {
    const index_t globals = sample.global_queries();
    for (index_t q = std::max(begin, globals); q < tokens.end; q += kTile) {
      Tile& tile = tiles_[tile_count_++];
      tile = Tile(q, tokens.end, sample);
      keys.globals.end = std::max(keys.globals.end, tile.some.globals.end);
      keys.include(tile.some.band);
    }
    if (globals == 0) return;
    keys.globals.end = std::min(globals, sample.length);
    keys.include(overlap(tokens, {globals, sample.length}));
  }

  std::span<const Tile> tiles() const { return std::span(tiles_).first(tile_count_); }

 private:
  std::array<Tile, kTilesAStrip> tiles_;
  std::size_t tile_count_ = 0;
};

/// Memory of one call, cut into pieces that begin on cache lines.
class Scratch {
 public:
  explicit Scratch(std::span<float> memory) : memory_(memory) {}
  float* take(index_t floats) { return part(floats).memory_.data(); }
  Scratch part(index_t floats) {
    const std::size_t size = static_cast<std::size_t>(floats + 15) / 16 * 16;
    WEIR_ASSERT(size <= memory_.size());
    const Scratch first(memory_.first(size));
    memory_ = memory_.subspan(size);
    return first;
  }

 private:
  std::span<float> memory_;
};

/// Floats that the tiles of global queries carry from strip to strip.
inline index_t global_floats(const AttentionSample& sample) {
  const index_t tiles = (sample.global_queries() + kTile - 1) / kTile;
  return sample.heads * tiles * kTile * (2 + (sample.channels() + 15) / 16 * 16);
}

/// Enough for a strip, forward or backward: four panels, two blocks of scores, tiles, globals.
inline index_t attention_floats(const AttentionSample& sample) {
  const index_t tokens = sample.tokens();
  const Sparsity& form = sample.sparsity;
  const index_t band = kStrip + std::min(form.left, tokens) + std::min(form.right, tokens);
  const index_t keys = std::min(form.globals.count(), tokens) + std::min(band, tokens);
  const index_t columns = (sample.channels() + 15) / 16 * 16;
  return 4 * keys * columns + 2 * keys * kTile + 5 * kTile * columns + 4 * kTile +
         global_floats(sample);
}

/// Tokens of a sample.
inline index_t check_attention(ConstMatrix qkv, index_t heads, std::span<const index_t> lengths,
                               const Sparsity& sparsity) {
  WEIR_ASSERT(heads > 0 && qkv.extent(1) > 0 && qkv.extent(1) % (3 * heads) == 0);
  WEIR_ASSERT(!lengths.empty() && qkv.extent(0) % std::ssize(lengths) == 0);
  WEIR_ASSERT(sparsity.left >= 0 && sparsity.right >= 0);
  const index_t tokens = qkv.extent(0) / std::ssize(lengths);
  WEIR_ASSERT(tokens < std::numeric_limits<std::int32_t>::max());
  for (const index_t length : lengths) WEIR_ASSERT(0 <= length && length <= tokens);
  return tokens;
}

}  // namespace weir::worker
