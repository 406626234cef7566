#include "worker/kernels/cpu/attention.hpp"

namespace weir::worker {
namespace {

std::int32_t narrow(index_t position) { return static_cast<std::int32_t>(position); }

/// The smallest interval that holds both.
Interval hull(Interval a, Interval b) {
  if (a.count() == 0) return b;
  if (b.count() == 0) return a;
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

index_t rows_a_sequence(const AttentionInput& input, const ConstMatrix& rows) {
  return rows.extent(0) / input.sequences();
}

}  // namespace

void Tile::set_lane(index_t lane, Interval band_of_lane, index_t last_of_lane) {
  const auto at = static_cast<std::size_t>(lane);
  band_begin[at] = narrow(band_of_lane.begin);
  band_end[at] = narrow(band_of_lane.end);
  last[at] = narrow(last_of_lane);
  band = hull(band, band_of_lane);
  every = lane == 0 ? band_of_lane : overlap(every, band_of_lane);
}

Tile Tile::local(index_t position, index_t count, index_t length, const Sparsity& sparsity) {
  const Globals& globals = sparsity.globals;
  const bool split = sparsity.form == GlobalForm::split;
  const bool some_global = globals.before(position) < globals.before(position + count);
  Tile tile;
  tile.first = position;
  tile.count = count;
  index_t least_last = length;
  index_t greatest_last = 0;
  for (index_t lane = 0; lane < kTile; ++lane) {
    const index_t query = position + std::min(lane, count - 1);
    Interval band_of_lane;
    index_t last_of_lane = 0;
    if (!some_global || !globals.holds(query)) {
      const VisibleKeys keys = visible_keys(query, length, sparsity);
      band_of_lane = {keys.band_begin, keys.band_end};
      last_of_lane = split ? 0 : keys.last;
    }
    tile.set_lane(lane, band_of_lane, last_of_lane);
    least_last = std::min(least_last, last_of_lane);
    greatest_last = std::max(greatest_last, last_of_lane);
    tile.blind = tile.blind || (band_of_lane.count() == 0 && globals.before(last_of_lane) == 0);
  }
  tile.both = overlap(tile.band,
                      {tile.band_of(kTile / 2, kTile / 2).begin, tile.band_of(0, kTile / 2).end});
  const bool in_band = globals.before(tile.band.begin) < globals.before(tile.band.end);
  tile.globals = globals.before(greatest_last);
  tile.plain = tile.globals == globals.before(least_last) && !in_band;
  tile.holes = split && in_band;
  tile.blind = tile.blind || tile.holes;
  return tile;
}

Tile Tile::global(index_t number, index_t count, index_t length, const Sparsity& sparsity) {
  Tile tile;
  tile.first = number;
  tile.count = count;
  tile.blind = true;  // it may see none it may see none of one block's keys
  for (index_t lane = 0; lane < kTile; ++lane) {
    const auto query = static_cast<std::size_t>(number + std::min(lane, count - 1));
    tile.set_lane(lane,
                  {0, visible_keys(sparsity.globals.positions()[query], length, sparsity).last}, 0);
  }
  tile.both = tile.band;
  return tile;
}

std::vector<Block> blocks_of(const AttentionInput& input, const AttentionStrip& strip,
                             index_t sequence) {
  const Sparsity& sparsity = *input.sparsity;
  const index_t length = input.lengths[sequence];
  std::vector<Tile> global;
  for (index_t number = 0; number < input.global_queries(); number += kTile) {
    global.push_back(
        Tile::global(number, std::min(kTile, input.global_queries() - number), length, sparsity));
  }
  std::vector<Block> blocks;
  for (index_t begin = strip.tokens.begin; begin < strip.tokens.end; begin += kBlock) {
    Block block;
    block.sequence = sequence;
    block.queries = {input.first + begin, input.first + std::min(begin + kBlock, strip.tokens.end)};
    for (index_t query = block.queries.begin; query < block.queries.end; query += kTile) {
      block.tiles.push_back(
          Tile::local(query, std::min(kTile, block.queries.end - query), length, sparsity));
      block.keys = hull(block.keys, block.tiles.back().band);
    }
    const Interval own = overlap(block.queries, {0, length});
    for (const Tile& tile : global) {
      if (overlap(tile.band, own).count() == 0) continue;
      block.global.push_back(tile);
      block.keys = hull(block.keys, overlap(tile.band, own));
    }
    blocks.push_back(std::move(block));
  }
  return blocks;
}

index_t attention_floats(const AttentionInput& input) {
  const Sparsity& sparsity = *input.sparsity;
  const index_t positions =
      rows_a_sequence(input, input.before) + input.tokens() + rows_a_sequence(input, input.after);
  const index_t band =
      kBlock + std::min(sparsity.left, positions) + std::min(sparsity.right, positions);
  const index_t keys = input.global_count() + std::min({band, positions, kChunk + 1});
  const index_t columns = (input.channels() + 15) / 16 * 16;
  return 4 * panel_floats(keys, input.global_count(), columns) + 2 * keys * kTile +
         spare_floats(keys, input.global_count()) + (5 + kTilesABlock) * kTile * columns +
         (2 * kTilesABlock + 4) * kTile;
}

bool has_pair_products() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  return has;
#else
  return false;
#endif
}

void check_attention(const AttentionInput& input, const AttentionStrip& strip) {
  WEIR_ASSERT(input.heads > 0 && input.sparsity != nullptr && !input.lengths.empty());
  WEIR_ASSERT(input.qkv.extent(1) > 0 && input.qkv.extent(1) % (3 * input.heads) == 0);
  WEIR_ASSERT(input.qkv.extent(0) % input.sequences() == 0);
  const Sparsity& sparsity = *input.sparsity;
  WEIR_ASSERT(sparsity.left >= 0 && sparsity.right >= 0);
  const index_t width = input.width();
  for (const auto* beside : {&input.before, &input.after}) {
    WEIR_ASSERT(beside->extent(0) == 0 || beside->extent(1) == 2 * width);
    WEIR_ASSERT(beside->extent(0) % input.sequences() == 0);
  }
  const index_t count = input.global_count();
  WEIR_ASSERT(count == (sparsity.form == GlobalForm::split ? 0 : sparsity.globals.count()));
  WEIR_ASSERT(count == 0 || input.globals.extent(1) == 3 * width);
  WEIR_ASSERT(rows_a_sequence(input, input.before) >= std::min(sparsity.left, input.first));
  WEIR_ASSERT(input.first + input.tokens() < std::numeric_limits<std::int32_t>::max());
  WEIR_ASSERT(0 <= strip.first_sequence && strip.sequences >= 0);
  WEIR_ASSERT(strip.first_sequence + strip.sequences <= input.sequences());
  WEIR_ASSERT(0 <= strip.tokens.begin && strip.tokens.end <= input.tokens());
  for (const index_t length : input.lengths) {
    WEIR_ASSERT(0 <= length);
    const index_t end = input.first + input.tokens();
    const index_t beyond = std::max<index_t>(0, length - end);
    WEIR_ASSERT(rows_a_sequence(input, input.after) >= std::min(sparsity.right_reach(), beyond));
  }
}

}  // namespace weir::worker
