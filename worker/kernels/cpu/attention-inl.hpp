// What the tiles of attention share forward and backward, compiled once for each instruction set
// (see cpu_simd-inl.hpp).

#if defined(WEIR_WORKER_KERNELS_CPU_ATTENTION_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_WORKER_KERNELS_CPU_ATTENTION_INL_HPP
#undef WEIR_WORKER_KERNELS_CPU_ATTENTION_INL_HPP
#else
#define WEIR_WORKER_KERNELS_CPU_ATTENTION_INL_HPP
#endif

#include <cmath>

#include "worker/kernels/cpu/attention.hpp"
#include "worker/kernels/cpu/product-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {

static_assert(kTile % kLanes == 0);
constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline index_t padded(index_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

/// Asks the second cache for the row two tiles further on. A head's rows are short and, in qkv,
/// thousands of bytes apart, which the processor does not foresee; the first cache has too few
/// places for addresses so far apart.
template <class T>
HWY_INLINE void fetch_ahead(const T* from, index_t row, index_t channels) {
  constexpr index_t kLine = 64 / sizeof(T);
  constexpr int kRead = 0;
  constexpr int kSecondCache = 2;
  for (index_t c = 0; c < channels; c += kLine) {
    __builtin_prefetch(from + 2 * kTile * row + c, kRead, kSecondCache);
  }
}

/// to[count, padded(channels)] = scale * from[count, channels], zeros in the columns behind.
template <class T, class To>
inline void pack_rows(const T* from, index_t from_row, index_t count, index_t channels, float scale,
                      To* to) {
  const index_t columns = padded(channels);
  const V factor = set(scale);
  for (index_t r = 0; r < count; ++r, from += from_row, to += columns) {
    fetch_ahead(from, from_row, channels);
    index_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) store(hn::Mul(load(from + c), factor), to + c);
    if (c < channels) store(hn::Mul(load_up_to(from + c, channels - c), factor), to + c);
  }
}
/// The same in bf16, as pairs of channels [count, padded(channels) / 2].
template <class T>
inline void pack_rows(const T* from, index_t from_row, index_t count, index_t channels, float scale,
                      Pair* to) {
  pack_rows(from, from_row, count, channels, scale, reinterpret_cast<Bf16*>(to));
}

/// Pairs of successive rows: to[r / 2, columns] out of rows of pairs of channels; zeros instead of
/// a row behind the last one.
inline void join_rows(const Pair* from, index_t count, index_t columns, Pair* to) {
  for (index_t r = 0; r < count; r += 2, from += columns, to += columns) {
    const auto* const rows = reinterpret_cast<const Bf16*>(from);
    for (index_t c = 0; c < columns; c += kLanes) {
      const Bits first = load_halves(&rows[c].bits);
      const Bits second = r + 1 < count ? load_halves(&rows[columns + c].bits) : word(0);
      store_pairs(hn::Or(first, hn::ShiftLeft<16>(second)), to + c);
    }
  }
}

/// to[columns, kTile] = from[count, columns]^T, zeros in the lanes behind count. E: 32 bits.
template <class E>
inline void transpose_tile(const E* from, index_t count, index_t columns, E* to) {
  index_t r = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> four;
  static_assert(sizeof(E) == sizeof(float));
  for (; r + 4 <= count; r += 4) {
    for (index_t c = 0; c < columns; c += 4) {
      const auto* block = reinterpret_cast<const float*>(from + r * columns + c);
      const auto row0 = hn::LoadU(four, block);
      const auto row1 = hn::LoadU(four, block + columns);
      const auto row2 = hn::LoadU(four, block + 2 * columns);
      const auto row3 = hn::LoadU(four, block + 3 * columns);
      const auto low01 = hn::InterleaveLower(four, row0, row1);
      const auto low23 = hn::InterleaveLower(four, row2, row3);
      const auto high01 = hn::InterleaveUpper(four, row0, row1);
      const auto high23 = hn::InterleaveUpper(four, row2, row3);
      auto* out = reinterpret_cast<float*>(to + c * kTile + r);
      hn::StoreU(hn::ConcatLowerLower(four, low23, low01), four, out);
      hn::StoreU(hn::ConcatUpperUpper(four, low23, low01), four, out + kTile);
      hn::StoreU(hn::ConcatLowerLower(four, high23, high01), four, out + 2 * kTile);
      hn::StoreU(hn::ConcatUpperUpper(four, high23, high01), four, out + 3 * kTile);
    }
  }
#endif
  for (; r < kTile; ++r) {
    for (index_t c = 0; c < columns; ++c) {
      to[c * kTile + r] = r < count ? from[r * columns + c] : E{};
    }
  }
}

/// How many terms of a sum an element E holds: tiles are multiplied as floats or as pairs.
template <class E>
constexpr index_t kTerms = 1;
template <>
inline constexpr index_t kTerms<Pair> = 2;

/// 1 / sqrt(C) in two factors: queries are multiplied by the first when they are packed, which is
/// exact in bf16, and scores of pairs by the rest.
struct ScoreScale {
  float of_queries;
  float of_scores;
};
template <class E>
ScoreScale score_scale(index_t channels) {
  const float root = std::sqrt(static_cast<float>(channels));
  if constexpr (kTerms<E> == 1) return {1 / root, 1};
  const float power = std::ldexp(1.0F, -std::ilogb(root));
  return {power, 1 / (root * power)};
}

/// scores[count, kTile] *= factor
inline void scale_scores(index_t count, float factor, float* scores) {
  if (factor == 1) return;
  const V by = set(factor);
  map(
      count * kTile, scores, [by](V v) HWY_ATTR { return hn::Mul(v, by); }, scores);
}

/// One part (keys, values, or a gradient of them) of a head's chunk: rows of C channels, whatever
/// the dtype in memory is, padded to whole vectors, first the global keys (if the chunk has them),
/// then a run of the others. Sums over channels read by_channel, sums over keys read by_key. For
/// floats both are the same memory.
template <class E>
struct Panel {
  index_t globals;
  Interval run;
  index_t columns;
  E* by_channel;  ///< [rows, columns / kTerms]
  /// [globals + run / kTerms, columns]. A global key is paired with zeros: its neighbour may be one
  /// that nobody sees and that holds anything, NaN too.
  E* by_key;

  /// memory: panel_floats.
  Panel(index_t global_count, Interval keys, index_t channels, float* memory)
      : globals(global_count),
        run(keys),
        columns(padded(channels)),
        by_channel(reinterpret_cast<E*>(memory)),
        by_key(kTerms<E> == 1 ? by_channel : by_channel + rows() * columns / kTerms<E>) {}

  index_t rows() const { return globals + run.count(); }
  E* row(index_t key) const {
    return by_channel + (globals + key - run.begin) * columns / kTerms<E>;
  }

  /// Copies the rows out of memory. Global rows come from a matrix of their own, beginning at
  /// `global_column`. with_keys: by_key is needed, too.
  template <class T>
  void pack(const T* global, index_t global_column, index_t global_row,
            const Places<const T>& places, index_t channels, bool with_keys) const {
    if (globals > 0) {
      pack_rows(global + global_column, global_row, globals, channels, 1, by_channel);
    }
    places.each(run, [&](Interval part, const T* from, index_t from_row) HWY_ATTR {
      pack_rows(from, from_row, part.count(), channels, 1, row(part.begin));
    });
    if constexpr (std::is_same_v<E, Pair>) {
      if (!with_keys) return;
      for (index_t g = 0; g < globals; ++g) {
        join_rows(by_channel + g * columns / kTerms<E>, 1, columns, by_key + g * columns);
      }
      join_rows(row(run.begin), run.count(), columns, by_key + globals * columns);
    }
  }
};

/// The keys that a tile takes from a panel: the first `globals` of the global ones, and a part of
/// the run.
struct KeyPieces {
  index_t globals;
  Interval keys;

  index_t count() const { return globals + keys.count(); }
};

#if HWY_TARGET != HWY_SCALAR
/// scores[key, lane] = rows times a transposed tile [C, kTile], only for its first lanes. This pays
/// for few queries if a vector of 16 lanes takes twice the time of one of 8.
template <int kRows, class Lanes>
HWY_INLINE void multiply_lanes(Lanes lanes, const float* row, index_t columns, index_t count,
                               index_t channels, const float* tile, float* scores) {
  index_t r = 0;
  for (; r + kRows <= count; r += kRows) {
    hn::Vec<Lanes> sum[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) sum[i] = hn::Zero(lanes);
    for (index_t c = 0; c < channels; ++c) {
      const auto queries = hn::LoadU(lanes, tile + c * kTile);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        sum[i] = hn::MulAdd(hn::Set(lanes, row[(r + i) * columns + c]), queries, sum[i]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) hn::StoreU(sum[i], lanes, scores + (r + i) * kTile);
  }
  if constexpr (kRows > 1) {
    multiply_lanes<kRows / 2>(lanes, row + r * columns, columns, count - r, channels, tile,
                              scores + r * kTile);
  }
}
#endif

/// scores[key, lane] = rows of the panel times a transposed tile [C, kTile], piece by piece. Of
/// keys that only one half of the lanes can see, the other half's are 0.
inline void multiply_pieces(const Panel<float>& panel, const KeyPieces& pieces,
                            [[maybe_unused]] const Tile& of, index_t channels, const float* tile,
                            float* scores) {
  const auto multiply = [&](const float* rows, index_t count, float* to) HWY_ATTR {
    small_product<float>({rows, panel.columns, 1}, count, channels, kTile, tile, kTile, false, to,
                         kTile);
  };
  float* const band = scores + (pieces.globals - pieces.keys.begin) * kTile;
#if HWY_TARGET != HWY_SCALAR
  constexpr int kRows = 8;
  if (of.count <= 4) {
    const hn::FixedTag<float, 4> four;
    multiply_lanes<kRows>(four, panel.by_channel, panel.columns, pieces.globals, channels, tile,
                          scores);
    multiply_lanes<kRows>(four, panel.row(pieces.keys.begin), panel.columns, pieces.keys.count(),
                          channels, tile, band + pieces.keys.begin * kTile);
    return;
  }
  const hn::CappedTag<float, kTile / 2> half;
  const auto multiply_half = [&](Interval keys, index_t lane) HWY_ATTR {
    for (index_t key = keys.begin; key < keys.end; ++key) {  // the others see nothing of it
      std::fill_n(band + key * kTile + (kTile / 2 - lane), kTile / 2, 0.0F);
    }
    for (index_t end = lane + kTile / 2; lane < end; lane += hn::MaxLanes(half)) {
      multiply_lanes<kRows>(half, panel.row(keys.begin), panel.columns, keys.count(), channels,
                            tile + lane, band + keys.begin * kTile + lane);
    }
  };
  const auto inside = [&](index_t key) {
    return std::clamp(key, pieces.keys.begin, pieces.keys.end);
  };
  const Interval both{inside(of.both.begin), inside(of.both.end)};
  multiply_half({pieces.keys.begin, both.begin}, 0);
  multiply_half({both.end, pieces.keys.end}, kTile / 2);
#else
  const Interval both = pieces.keys;
#endif
  multiply(panel.by_channel, pieces.globals, scores);
  multiply(panel.row(both.begin), both.count(), band + both.begin * kTile);
}

/// How many queries of a tile combine values together: they see fewer keys than the whole tile.
constexpr index_t kGroup = 4;

/// out[lane, columns] = (or +=) scores[key, lane]^T times rows of the panel. spare: memory
/// of spare_floats.
inline void combine_pieces(const Panel<float>& panel, const KeyPieces& pieces, const Tile& tile,
                           const float* scores, bool accumulate, float* out, float*) {
  const index_t columns = panel.columns;
  if (pieces.globals > 0 || !accumulate) {
    small_product<float>({scores, 1, kTile}, tile.count, pieces.globals, columns, panel.by_key,
                         columns, accumulate, out, columns);
  }
  scores += pieces.globals * kTile;
  for (index_t lane = 0; lane < tile.count; lane += kGroup) {
    const index_t lanes = std::min(kGroup, tile.count - lane);
    const Interval keys = overlap(tile.band_of(lane, lanes), pieces.keys);
    if (keys.count() == 0) continue;
    small_product<float>({scores + (keys.begin - pieces.keys.begin) * kTile + lane, 1, kTile},
                         lanes, keys.count(), columns, panel.row(keys.begin), columns, true,
                         out + lane * columns, columns);
  }
}

/// Rows of the panel += scores[key, lane] times a tile [lane, columns].
inline void spread_pieces(const Panel<float>& panel, const KeyPieces& pieces, const Tile& tile,
                          const float* scores, const float* rows, float*) {
  const index_t columns = panel.columns;
  small_product<float>({scores, kTile, 1}, pieces.globals, tile.count, columns, rows, columns, true,
                       panel.by_channel, columns);
  small_product<float>({scores + pieces.globals * kTile, kTile, 1}, pieces.keys.count(), tile.count,
                       columns, rows, columns, true, panel.row(pieces.keys.begin), columns);
}

#if HWY_TARGET == HWY_AVX3
static_assert(kTile == kLanes);

/// The same for pairs. They are so fast that halves bring nothing.
inline void multiply_pieces(const Panel<Pair>& panel, const KeyPieces& pieces, const Tile&, index_t,
                            const Pair* tile, float* scores) {
  const index_t row = panel.columns / 2;
  const auto multiply = [&](const Pair* rows, index_t count, float* to) HWY_ATTR {
    small_product<Pair>({rows, row, 1}, count, row, kTile, tile, kTile, false, to, kTile);
  };
  multiply(panel.by_channel, pieces.globals, scores);
  multiply(panel.row(pieces.keys.begin), pieces.keys.count(), scores + pieces.globals * kTile);
}

/// Scores of successive keys as pairs of keys [.., kTile]; `skipped`: 1 if the first key is the
/// second one of its pair. A key that is not there has the score 0.
inline void join_scores(const float* scores, index_t skipped, index_t count, Pair* to) {
  const auto of = [&](index_t key) HWY_ATTR {
    if (key < 0 || key >= count) return word(0);
    return hn::PromoteTo(kIntegers, rounded_to_bf16(load(scores + key * kTile)));
  };
  for (index_t key = -skipped; key < count; key += 2, to += kTile) {
    store_pairs(hn::Or(of(key), hn::ShiftLeft<16>(of(key + 1))), to);
  }
}

/// The same with scores rounded to bf16 and pairs of keys.
inline void combine_pieces(const Panel<Pair>& panel, const KeyPieces& pieces, const Tile& tile,
                           const float* scores, bool accumulate, float* out, float* spare) {
  const index_t columns = panel.columns;
  auto* const joined = reinterpret_cast<Pair*>(spare);
  if (pieces.globals > 0 || !accumulate) {
    for (index_t g = 0; g < pieces.globals; ++g) {
      join_scores(scores + g * kTile, 0, 1, joined + g * kTile);
    }
    small_product<Pair>({joined, 1, kTile}, tile.count, pieces.globals, columns, panel.by_key,
                        columns, accumulate, out, columns);
  }
  const index_t begin = pieces.keys.begin - panel.run.begin;
  join_scores(scores + pieces.globals * kTile, begin % 2, pieces.keys.count(), joined);
  for (index_t lane = 0; lane < tile.count; lane += kGroup) {
    const index_t lanes = std::min(kGroup, tile.count - lane);
    const Interval keys = overlap(tile.band_of(lane, lanes), pieces.keys);
    if (keys.count() == 0) continue;
    const Interval pairs{(keys.begin - panel.run.begin) / 2, (keys.end - panel.run.begin + 1) / 2};
    small_product<Pair>({joined + (pairs.begin - begin / 2) * kTile + lane, 1, kTile}, lanes,
                        pairs.count(), columns,
                        panel.by_key + (panel.globals + pairs.begin) * columns, columns, true,
                        out + lane * columns, columns);
  }
}

/// The same with scores rounded to bf16 and pairs of lanes: rows [kTile / 2, columns].
inline void spread_pieces(const Panel<float>& panel, const KeyPieces& pieces, const Tile& tile,
                          const float* scores, const Pair* rows, float* spare) {
  const index_t columns = panel.columns;
  auto* const joined = reinterpret_cast<Pair*>(spare);
  for (index_t key = 0; key < pieces.count(); ++key) {
    const auto row = rounded_to_bf16(load(scores + key * kTile));
    hn::StoreU(row, kHalves, reinterpret_cast<std::uint16_t*>(joined + key * kTile / 2));
  }
  const index_t lanes = (tile.count + 1) / 2;
  small_product<Pair>({joined, kTile / 2, 1}, pieces.globals, lanes, columns, rows, columns, true,
                      panel.by_channel, columns);
  small_product<Pair>({joined + pieces.globals * kTile / 2, kTile / 2, 1}, pieces.keys.count(),
                      lanes, columns, rows, columns, true, panel.row(pieces.keys.begin), columns);
}
#endif

/// scores = -infinity where a query does not see the key.
inline void mask_scores(const Tile& tile, const KeyPieces& pieces, const Globals& globals,
                        float* scores) {
  const hn::RebindToSigned<Floats> integers;
  const V nothing = set(-kInfinity);
  // Keeps the scores of queries that have `position` in their band or, with `outside`, of those
  // that see it outside their band.
  const auto mask_row = [&](index_t position, bool outside, float* row) HWY_ATTR {
    const auto key = hn::Set(integers, static_cast<std::int32_t>(position));
    for (index_t lane = 0; lane < kTile; lane += kLanes) {
      const auto at = [&](const std::array<std::int32_t, kTile>& lanes)
                          HWY_ATTR { return hn::LoadU(integers, lanes.data() + lane); };
      auto sees = hn::AndNot(hn::Gt(at(tile.band_begin), key), hn::Gt(at(tile.band_end), key));
      if (outside) sees = hn::AndNot(sees, hn::Gt(at(tile.last), key));
      store(hn::IfThenElse(hn::RebindMask(kFloats, sees), load(row + lane), nothing), row + lane);
    }
  };
  for (index_t g = 0; g < pieces.globals && !tile.plain; ++g) {
    mask_row(globals.positions()[g], true, scores + g * kTile);
  }
  float* const band = scores + (pieces.globals - pieces.keys.begin) * kTile;
  const Interval plain = overlap(tile.every, pieces.keys);
  const Interval before{pieces.keys.begin, plain.count() > 0 ? plain.begin : pieces.keys.end};
  for (index_t key = before.begin; key < before.end; ++key)
    mask_row(key, false, band + key * kTile);
  for (index_t key = std::max(before.end, plain.end); key < pieces.keys.end; ++key) {
    mask_row(key, false, band + key * kTile);
  }
  if (!tile.holes) return;
  for (index_t g = globals.before(pieces.keys.begin); g < globals.before(pieces.keys.end); ++g) {
    const index_t key = globals.positions()[g];
    for (index_t lane = 0; lane < kTile; lane += kLanes) store(nothing, band + key * kTile + lane);
  }
}

}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
