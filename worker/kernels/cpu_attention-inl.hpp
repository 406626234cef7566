// What the tiles of attention share forward and backward, compiled once for each instruction set
// (see cpu_simd-inl.hpp).

#if defined(WEIR_WORKER_KERNELS_CPU_ATTENTION_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_WORKER_KERNELS_CPU_ATTENTION_INL_HPP
#undef WEIR_WORKER_KERNELS_CPU_ATTENTION_INL_HPP
#else
#define WEIR_WORKER_KERNELS_CPU_ATTENTION_INL_HPP
#endif

#include "worker/kernels/cpu_attention.hpp"
#include "worker/kernels/cpu_product-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {

static_assert(kTile % kLanes == 0);
constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline index_t padded(index_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

/// to[count, padded(channels)] = scale * from[count, channels], zeros in the columns behind.
inline void pack_rows(const float* from, index_t from_row, index_t count, index_t channels,
                      float scale, float* to) {
  const index_t columns = padded(channels);
  const V factor = set(scale);
  for (index_t r = 0; r < count; ++r) {
    for (index_t c = 0; c < columns; c += kLanes) {
      const V values = load_up_to(from + r * from_row + c, std::min(kLanes, channels - c));
      store(hn::Mul(values, factor), to + r * columns + c);
    }
  }
}

/// to[columns, kTile] = from[count, columns]^T, zeros in the lanes behind count.
inline void transpose_tile(const float* from, index_t count, index_t columns, float* to) {
  index_t r = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> four;
  for (; r + 4 <= count; r += 4) {
    for (index_t c = 0; c < columns; c += 4) {
      const float* block = from + r * columns + c;
      const auto row0 = hn::LoadU(four, block);
      const auto row1 = hn::LoadU(four, block + columns);
      const auto row2 = hn::LoadU(four, block + 2 * columns);
      const auto row3 = hn::LoadU(four, block + 3 * columns);
      const auto low01 = hn::InterleaveLower(four, row0, row1);
      const auto low23 = hn::InterleaveLower(four, row2, row3);
      const auto high01 = hn::InterleaveUpper(four, row0, row1);
      const auto high23 = hn::InterleaveUpper(four, row2, row3);
      float* out = to + c * kTile + r;
      hn::StoreU(hn::ConcatLowerLower(four, low23, low01), four, out);
      hn::StoreU(hn::ConcatUpperUpper(four, low23, low01), four, out + kTile);
      hn::StoreU(hn::ConcatLowerLower(four, high23, high01), four, out + 2 * kTile);
      hn::StoreU(hn::ConcatUpperUpper(four, high23, high01), four, out + 3 * kTile);
    }
  }
#endif
  for (; r < kTile; ++r) {
    for (index_t c = 0; c < columns; ++c) {
      to[c * kTile + r] = r < count ? from[r * columns + c] : 0;
    }
  }
}

/// One part (keys, values, or a gradient of them) of a head's strip: rows of C floats, padded to
/// whole vectors, first the global keys, then the band.
struct Panel {
  Keys keys;
  index_t columns;
  float* data;

  Panel(const Keys& keys_held, index_t channels, Scratch& scratch)
      : keys(keys_held),
        columns(padded(channels)),
        data(scratch.take(keys_held.size() * columns)) {}

  /// Copies its rows out of qkv, whose rows are from_row apart.
  void pack(const float* from, index_t from_row, index_t channels) const {
    pack_rows(from, from_row, keys.globals.size(), channels, 1, data);
    pack_rows(from + keys.band.begin * from_row, from_row, keys.band.size(), channels, 1,
              data + keys.globals.size() * columns);
  }
  /// The rows of a run that lies wholly among the globals or wholly in the band.
  float* rows(Run run) const {
    if (run.size() == 0) return data;
    const bool global = run.begin < keys.globals.end;
    return data +
           columns * (global ? run.begin : keys.globals.size() + run.begin - keys.band.begin);
  }
};

/// The keys that a tile takes from a panel: some of the globals, some of the band.
using Pieces = std::array<Run, 2>;

inline Pieces all_pieces(const Tile& tile) { return {tile.some.globals, tile.some.band}; }
/// A global query takes from each strip the keys that are the strip's own.
inline Pieces owned_pieces(const Tile& tile, const Strip& strip) {
  return {overlap(tile.some.globals, strip.tokens), overlap(tile.some.band, strip.tokens)};
}

/// scores[key, lane] = rows of the panel times a transposed tile [C, kTile], piece by piece.
inline void multiply_pieces(const Panel& panel, const Pieces& pieces, index_t channels,
                            const float* tile, float* scores) {
  for (const Run& piece : pieces) {
    small_product({panel.rows(piece), panel.columns, 1}, piece.size(), channels, kTile, tile, kTile,
                  false, scores, kTile);
    scores += piece.size() * kTile;
  }
}

/// out[lane, columns] = (or +=) scores[key, lane]^T times rows of the panel.
inline void combine_pieces(const Panel& panel, const Pieces& pieces, const float* scores,
                           index_t lanes, bool accumulate, float* out) {
  for (const Run& piece : pieces) {
    small_product({scores, 1, kTile}, lanes, piece.size(), panel.columns, panel.rows(piece),
                  panel.columns, accumulate, out, panel.columns);
    scores += piece.size() * kTile;
    accumulate = true;
  }
}

/// Rows of the panel += scores[key, lane] times a tile [lane, columns].
inline void spread_pieces(const Panel& panel, const Pieces& pieces, const float* scores,
                          index_t lanes, const float* tile) {
  for (const Run& piece : pieces) {
    small_product({scores, kTile, 1}, piece.size(), lanes, panel.columns, tile, panel.columns, true,
                  panel.rows(piece), panel.columns);
    scores += piece.size() * kTile;
  }
}

/// scores = -infinity where a query does not see the key.
inline void mask_scores(const Tile& tile, const Pieces& pieces, float* scores) {
  const hn::RebindToSigned<Floats> integers;
  const V nothing = set(-kInfinity);
  const auto mask_row = [&](index_t token, bool global, float* row) HWY_ATTR {
    const auto key = hn::Set(integers, static_cast<std::int32_t>(token));
    for (index_t lane = 0; lane < kTile; lane += kLanes) {
      const auto at = [&](const std::array<std::int32_t, kTile>& lanes)
                          HWY_ATTR { return hn::LoadU(integers, lanes.data() + lane); };
      const auto before_end = hn::Gt(at(global ? tile.global_end : tile.band_end), key);
      const auto sees =
          global ? before_end : hn::AndNot(hn::Gt(at(tile.band_begin), key), before_end);
      store(hn::IfThenElse(hn::RebindMask(kFloats, sees), load(row + lane), nothing), row + lane);
    }
  };
  for (index_t token = pieces[0].begin; token < pieces[0].end; ++token, scores += kTile) {
    if (!tile.every.globals.holds(token)) mask_row(token, true, scores);
  }
  for (index_t token = pieces[1].begin; token < pieces[1].end; ++token, scores += kTile) {
    if (!tile.every.band.holds(token)) mask_row(token, false, scores);
  }
}

}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
