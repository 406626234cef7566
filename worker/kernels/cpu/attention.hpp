#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "common/base/error.hpp"
#include "worker/kernels/attention.hpp"

namespace weir::worker {

// How attention is cut on the CPU. A tile is 16 successive queries, the lanes of a vector: with a
// window of 16 two thirds of its products are of use, with wider tiles less. Its keys are global
// tokens and one band. Tiles are done in blocks of 256 queries; of each head, a block's keys and
// values are first packed into panels, as in qkv its rows are 3 H C apart, which few rows fill a
// cache with. A band that is too wide for the cache goes through the panels in chunks.
// Global queries see keys everywhere: their tiles take from each block the keys that are the
// block's own, and carry their softmax from block to block.

constexpr index_t kTile = 16;
constexpr index_t kBlock = 256;
constexpr index_t kTilesABlock = kBlock / kTile;
/// Keys of a chunk, at most: four panels of 512 keys and 64 channels fill half a megabyte.
constexpr index_t kChunk = 512;
/// So a query that sees anything in its band sees some of it in the first chunk: no query is blind
/// only in the first chunk.
static_assert(kChunk >= 2 * kBlock);

/// Up to kTile queries and the keys that each of them sees. Lanes behind `count` repeat the last
/// query.
struct Tile {
  index_t first = 0;  ///< position of the first query; in a tile of global queries its number
  index_t count = 0;
  Interval band;        ///< keys that some query sees inside its own band
  Interval every;       ///< part of it: keys that every query sees, whose scores need no mask
  Interval both;        ///< part of it: keys before are the first half's alone, after the last's
  index_t globals = 0;  ///< this many first global keys are seen outside the band
  bool plain = true;    ///< every query sees all of these, and none of them is in the band
  bool holes = false;   ///< global keys inside the band, which the form `split` leaves out
  bool blind = false;   ///< some query sees nothing
  std::array<std::int32_t, kTile> band_begin{};
  std::array<std::int32_t, kTile> band_end{};
  std::array<std::int32_t, kTile> last{};  ///< global keys before this one are seen

  /// Keys inside the bands of some lanes.
  Interval band_of(index_t lane, index_t lanes) const {
    Interval run{band.end, band.begin};
    for (index_t at = lane; at < lane + lanes; ++at) {
      const auto i = static_cast<std::size_t>(at);
      if (band_begin[i] >= band_end[i]) continue;  // a global query among the others
      run.begin = std::min<index_t>(run.begin, band_begin[i]);
      run.end = std::max<index_t>(run.end, band_end[i]);
    }
    return run.count() > 0 ? run : Interval{};
  }
  /// Local queries from `position` on. Global ones among them see nothing here.
  static Tile local(index_t position, index_t count, index_t length, const Sparsity& sparsity);
  /// Global queries number, number + 1, ….
  static Tile global(index_t number, index_t count, index_t length, const Sparsity& sparsity);

 private:
  void set_lane(index_t lane, Interval band_of_lane, index_t last_of_lane);
};

/// The tiles of up to kBlock queries of one sequence, the same for all heads.
struct Block {
  index_t sequence = 0;
  Interval queries;  ///< positions
  Interval keys;     ///< the hull of all bands
  std::vector<Tile> tiles;
  std::vector<Tile> global;  ///< tiles of global queries that see some of the block's own tokens

  /// The number of chunks in which `keys` passes through the panels; they have about equal sizes.
  index_t chunk_count() const { return std::max<index_t>(1, (keys.count() + kChunk - 1) / kChunk); }
  Interval chunk(index_t index) const {
    const index_t count = chunk_count();
    return {keys.begin + keys.count() * index / count,
            keys.begin + keys.count() * (index + 1) / count};
  }
};

/// The blocks of one sequence in a strip, in ascending order.
std::vector<Block> blocks_of(const AttentionInput& input, const AttentionStrip& strip,
                             index_t sequence);

/// The element at `offset`; null if the matrix has no rows.
template <class T, class Byte>
SameConst<T, Byte>* start_of(const MatrixOf<Byte>& rows, index_t offset) {
  return rows.size() == 0 ? nullptr : as<T>(rows).data() + offset;
}

/// What forward writes: the arguments of Kernels::attention, global_part in its three pieces.
struct AttentionResults {
  Matrix out;
  Vector log_sum;
  Vector maximum;
  Vector sum;
  Vector weighted;
};

/// Where one head of a sequence writes in forward. Global queries carry their softmax from block to
/// block.
template <class T>
struct HeadOutput {
  T* out;           ///< [N, H C], at the head's first column
  float* log_sum;   ///< [N]
  float* maximum;   ///< one for each global query, `heads` apart
  float* sum;       ///< likewise
  float* weighted;  ///< [G, H C], at the head's first column

  HeadOutput(const AttentionInput& input, const AttentionResults& results, index_t sequence,
             index_t head) {
    const index_t first_query = sequence * input.global_queries();
    const index_t column = head * input.channels();
    const index_t sums = first_query * input.heads + head;
    out = start_of<T>(results.out, sequence * input.tokens() * input.width() + column);
    log_sum = as<float>(results.log_sum).data() + (sequence * input.heads + head) * input.tokens();
    maximum = as<float>(results.maximum).data() + sums;
    sum = as<float>(results.sum).data() + sums;
    weighted = as<float>(results.weighted).data() + first_query * input.width() + column;
  }
};

/// Runs of successive positions, each with its rows in memory: before, here, after.
template <class T>
struct Places {
  struct Place {
    Interval run;
    T* data;  ///< where run.begin lies
    index_t row;
  };
  std::array<Place, 3> all;

  /// function(part of the run, its first row, distance of rows) for each place that has some of it.
  template <class Function>
  void each(Interval run, const Function& function) const {
    for (const Place& place : all) {
      const Interval part = overlap(run, place.run);
      if (part.count() > 0) {
        function(part, place.data + (part.begin - place.run.begin) * place.row, place.row);
      }
    }
  }
};

/// Where the keys (part 0) or values (part 1) of one head and sequence lie; `here` has the shape of
/// input.qkv, `before` and `after` those of input.before and input.after.
template <class Element, class Byte>
Places<SameConst<Element, Byte>> places_of(const AttentionInput& input, MatrixOf<Byte> here,
                                           MatrixOf<Byte> before, MatrixOf<Byte> after,
                                           index_t sequence, index_t head, index_t part) {
  using T = SameConst<Element, Byte>;
  const index_t sequences = input.sequences();
  const index_t width = input.width();
  const index_t tokens = input.tokens();
  const index_t column = part * width + head * input.channels();
  const auto beside = [&](MatrixOf<Byte> rows, index_t begin) {
    const index_t count = rows.extent(0) / sequences;
    return typename Places<T>::Place{{begin, begin + count},
                                     start_of<Element>(rows, sequence * count * 2 * width + column),
                                     2 * width};
  };
  const index_t end = input.first + tokens;
  return {{beside(before, input.first - before.extent(0) / sequences),
           {{input.first, end},
            start_of<Element>(here, sequence * tokens * 3 * width + width + column),
            3 * width},
           beside(after, end)}};
}

/// Memory of one call, cut into pieces that begin on cache lines.
class ThreadScratch {
 public:
  explicit ThreadScratch(std::span<float> memory) : memory_(memory) {}
  float* take(index_t floats) {
    const std::size_t size = static_cast<std::size_t>(floats + 15) / 16 * 16;
    WEIR_ASSERT(size <= memory_.size());
    float* const first = memory_.data();
    memory_ = memory_.subspan(size);
    return first;
  }

 private:
  std::span<float> memory_;
};

/// Whether this processor multiplies pairs of bf16 and adds them to an f32 (AVX512-BF16). If so,
/// tiles of bf16 stay bf16, and probabilities and gradients of scores are rounded to it; else they
/// are converted to floats when they are packed.
bool has_pair_products();

/// The size of a panel in floats; `keys` counts the global ones, too. In pairs it has two forms,
/// each half as large, but one of them pairs global keys with zeros.
inline index_t panel_floats(index_t keys, index_t globals, index_t columns) {
  return (keys + globals / 2 + 2) * columns;
}
/// The size of a tile's scores in pairs, in floats.
inline index_t spare_floats(index_t keys, index_t globals) {
  return (keys / 2 + globals / 2 + 4) * kTile;
}

/// Floats that one thread needs, forward or backward: four panels, two blocks of scores, tiles.
index_t attention_floats(const AttentionInput& input);

/// Asserts that shapes agree and the halos suffice.
void check_attention(const AttentionInput& input, const AttentionStrip& strip);

}  // namespace weir::worker
