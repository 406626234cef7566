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

/// One part (keys, values, or a gradient of them) of a head's chunk: rows of C floats, padded to
/// whole vectors, first the global keys (if the chunk has them), then a run of the others.
struct Panel {
  index_t globals;
  Run run;
  index_t columns;
  float* data;

  Panel(index_t global_count, Run keys, index_t channels, float* memory)
      : globals(global_count), run(keys), columns(padded(channels)), data(memory) {}

  index_t rows() const { return globals + run.size(); }
  float* row(index_t key) const { return data + (globals + key - run.begin) * columns; }

  /// Copies its rows out of memory; the global ones stand in a column of rows of their own.
  void pack(const float* global, index_t global_column, index_t global_row,
            const Places<const float>& places, index_t channels) const {
    if (globals > 0) pack_rows(global + global_column, global_row, globals, channels, 1, data);
    places.each(run, [&](Run part, const float* from, index_t from_row) HWY_ATTR {
      pack_rows(from, from_row, part.size(), channels, 1, row(part.begin));
    });
  }
};

/// The keys that a tile takes from a panel: the first so many globals, and a part of the run.
struct Pieces {
  index_t globals;
  Run keys;

  index_t count() const { return globals + keys.size(); }
};

/// scores[key, lane] = rows of the panel times a transposed tile [C, kTile], piece by piece.
inline void multiply_pieces(const Panel& panel, const Pieces& pieces, index_t channels,
                            const float* tile, float* scores) {
  small_product({panel.data, panel.columns, 1}, pieces.globals, channels, kTile, tile, kTile, false,
                scores, kTile);
  small_product({panel.row(pieces.keys.begin), panel.columns, 1}, pieces.keys.size(), channels,
                kTile, tile, kTile, false, scores + pieces.globals * kTile, kTile);
}

/// out[lane, columns] = (or +=) scores[key, lane]^T times rows of the panel.
inline void combine_pieces(const Panel& panel, const Pieces& pieces, const float* scores,
                           index_t lanes, bool accumulate, float* out) {
  if (pieces.globals > 0) {
    small_product({scores, 1, kTile}, lanes, pieces.globals, panel.columns, panel.data,
                  panel.columns, accumulate, out, panel.columns);
    accumulate = true;
  }
  if (pieces.keys.size() > 0 || !accumulate) {
    small_product({scores + pieces.globals * kTile, 1, kTile}, lanes, pieces.keys.size(),
                  panel.columns, panel.row(pieces.keys.begin), panel.columns, accumulate, out,
                  panel.columns);
  }
}

/// Rows of the panel += scores[key, lane] times a tile [lane, columns].
inline void spread_pieces(const Panel& panel, const Pieces& pieces, const float* scores,
                          index_t lanes, const float* tile) {
  small_product({scores, kTile, 1}, pieces.globals, lanes, panel.columns, tile, panel.columns, true,
                panel.data, panel.columns);
  small_product({scores + pieces.globals * kTile, kTile, 1}, pieces.keys.size(), lanes,
                panel.columns, tile, panel.columns, true, panel.row(pieces.keys.begin),
                panel.columns);
}

/// scores = -infinity where a query does not see the key.
inline void mask_scores(const Tile& tile, const Pieces& pieces, const Globals& globals,
                        float* scores) {
  const hn::RebindToSigned<Floats> integers;
  const V nothing = set(-kInfinity);
  // The queries that have `position` in their band; or those that see it, but not in their band.
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
    mask_row(globals.positions()[static_cast<std::size_t>(g)], true, scores + g * kTile);
  }
  float* const band = scores + (pieces.globals - pieces.keys.begin) * kTile;
  const Run plain = overlap(tile.every, pieces.keys);
  const Run before{pieces.keys.begin, plain.size() > 0 ? plain.begin : pieces.keys.end};
  for (index_t key = before.begin; key < before.end; ++key) mask_row(key, false, band + key * kTile);
  for (index_t key = std::max(before.end, plain.end); key < pieces.keys.end; ++key) {
    mask_row(key, false, band + key * kTile);
  }
  if (!tile.holes) return;
  for (index_t g = globals.before(pieces.keys.begin); g < globals.before(pieces.keys.end); ++g) {
    const index_t key = globals.positions()[static_cast<std::size_t>(g)];
    for (index_t lane = 0; lane < kTile; lane += kLanes) store(nothing, band + key * kTile + lane);
  }
}

}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
