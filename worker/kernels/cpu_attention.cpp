#include "worker/kernels/cpu_attention.hpp"

#include <omp.h>

#include <cmath>

#include "worker/kernels/cpu.hpp"
#include "worker/kernels/cpu_simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu_attention.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/contrib/math/math-inl.h>

#include "worker/kernels/cpu_attention-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

/// A tile's softmax so far: maximum and sum [kTile], output not yet divided by the sum
/// [kTile, columns].
struct Running {
  float* maximum;
  float* sum;
  float* out;
  bool fresh = true;  ///< no keys yet: what the memory holds means nothing

  Running(index_t columns, Scratch& scratch)
      : maximum(scratch.take(kTile)),
        sum(scratch.take(kTile)),
        out(scratch.take(kTile * columns)) {}
};

/// Turns scores into exp(score - maximum) and adds them to the sum. correction: what sum and output
/// so far are to be multiplied with, as the maximum may have grown.
void exponentials(float* scores, index_t rows, bool blind, Running& running, float* correction) {
  for (index_t lane = 0; lane < kTile; lane += kLanes) {
    float* column = scores + lane;
    const V before = load(running.maximum + lane);
    V maximum = before;
    for (index_t r = 0; r < rows; ++r) maximum = hn::Max(maximum, load(column + r * kTile));
    store(maximum, running.maximum + lane);
    // A query that sees nothing: exp(-infinity - 0) = 0, not NaN.
    const auto saw_nothing = hn::Eq(maximum, set(-kInfinity));
    const V shift = blind ? hn::IfThenZeroElse(saw_nothing, maximum) : maximum;
    const V factor = exponential(hn::Sub(before, shift));
    store(factor, correction + lane);
    V sum = hn::Mul(load(running.sum + lane), factor);
    for (index_t r = 0; r < rows; ++r) {
      const V weight = exponential(hn::Sub(load(column + r * kTile), shift));
      store(weight, column + r * kTile);
      sum = hn::Add(sum, weight);
    }
    store(sum, running.sum + lane);
  }
}

/// Takes the keys of the pieces into a tile's softmax. queries: [C, kTile], transposed and scaled.
void attend(const Tile& tile, const Pieces& pieces, const Panel& keys, const Panel& values,
            const Globals& globals, index_t channels, const float* queries, Running& running,
            float* scores) {
  multiply_pieces(keys, pieces, channels, queries, scores);
  mask_scores(tile, pieces, globals, scores);
  if (running.fresh) {
    std::fill_n(running.maximum, kTile, -kInfinity);
    std::fill_n(running.sum, kTile, 0.0F);
  }
  HWY_ALIGN float correction[kTile];
  exponentials(scores, pieces.count(), tile.blind || !running.fresh, running, correction);
  for (index_t i = 0; i < tile.count && !running.fresh; ++i) {
    float* row = running.out + i * values.columns;
    const V factor = set(correction[i]);
    map(
        values.columns, row, [factor](V v) HWY_ATTR { return hn::Mul(v, factor); }, row);
  }
  combine_pieces(values, pieces, scores, tile.count, !running.fresh, running.out);
  running.fresh = false;
}

/// Writes a tile's output rows and its log_sum.
void finish(index_t count, const Running& running, index_t channels, float* out, index_t out_row,
            float* log_sum) {
  if (running.fresh) {  // nobody saw anything
    std::fill_n(log_sum, count, -kInfinity);
    for (index_t i = 0; i < count; ++i) std::fill_n(out + i * out_row, channels, 0.0F);
    return;
  }
  HWY_ALIGN float inverse[kTile];
  HWY_ALIGN float logarithm[kTile];
  for (index_t lane = 0; lane < kTile; lane += kLanes) {
    const V sum = load(running.sum + lane);
    const auto saw_nothing = hn::Eq(sum, set(0));
    store(hn::IfThenZeroElse(saw_nothing, hn::Div(set(1), sum)), inverse + lane);
    // Highway's Log makes a number of NaN.
    const V log = hn::IfThenElse(hn::IsNaN(sum), sum, hn::Log(kFloats, sum));
    const V log_sum_lanes = hn::Add(load(running.maximum + lane), log);
    store(hn::IfThenElse(saw_nothing, set(-kInfinity), log_sum_lanes), logarithm + lane);
  }
  std::copy_n(logarithm, count, log_sum);
  for (index_t i = 0; i < count; ++i) {
    const V scale = set(inverse[i]);
    map(
        channels, out + i * out_row, [scale](V v) HWY_ATTR { return hn::Mul(v, scale); },
        running.out + i * padded(channels));
  }
}

/// A head's sums of global queries [G, C + 2] (output, maximum, sum), and a tile of them in lanes.
void load_sums(const Tile& tile, const float* sums, index_t channels, Running& running) {
  std::fill_n(running.maximum, kTile, -kInfinity);
  std::fill_n(running.sum, kTile, 0.0F);
  for (index_t i = 0; i < tile.count; ++i) {
    const float* row = sums + (tile.first + i) * (channels + 2);
    std::copy_n(row, channels, running.out + i * padded(channels));
    std::fill_n(running.out + i * padded(channels) + channels, padded(channels) - channels, 0.0F);
    running.maximum[i] = row[channels];
    running.sum[i] = row[channels + 1];
  }
  running.fresh = false;
}
void store_sums(const Tile& tile, const Running& running, index_t channels, float* sums) {
  for (index_t i = 0; i < tile.count; ++i) {
    float* row = sums + (tile.first + i) * (channels + 2);
    std::copy_n(running.out + i * padded(channels), channels, row);
    row[channels] = running.maximum[i];
    row[channels + 1] = running.sum[i];
  }
}

/// One head's queries of a block, and the block's own keys for the global queries.
void attention_block(const AttentionInput& input, const Block& block, index_t head,
                     const HeadOutput& output, Scratch scratch) {
  const index_t channels = input.channels();
  const index_t columns = padded(channels);
  const index_t width = input.width();
  const index_t row = 3 * width;
  const float scale = 1 / std::sqrt(static_cast<float>(channels));
  const float* queries =
      input.qkv.data() + block.sequence * input.tokens() * row + head * channels;
  const float* globals =
      start_of(input.globals, block.sequence * input.global_count() * row + head * channels);
  const Globals& positions = input.sparsity->globals;
  const auto places = [&](index_t part) {
    return places_of<const float>(input, input.qkv, input.before, input.after, block.sequence, head,
                                  part);
  };

  float* packed = scratch.take(kTile * columns);
  float* transposed = scratch.take(kTile * columns);
  const auto pack_queries = [&](const float* from, index_t count) HWY_ATTR {
    pack_rows(from, row, count, channels, scale, packed);
    transpose_tile(packed, count, columns, transposed);
  };
  std::vector<Running> running;
  const bool several = block.chunk_count() > 1;
  for (std::size_t i = 0; i <= (several ? block.tiles.size() : 1); ++i) {
    running.emplace_back(columns, scratch);
  }
  Running& carried = running.back();  // of global queries
  const index_t rows = input.global_count() + std::min(kChunk + 1, block.keys.size());
  float* key_memory = scratch.take(rows * columns);
  float* value_memory = scratch.take(rows * columns);
  float* scores = scratch.take(rows * kTile);

  for (index_t index = 0; index < block.chunk_count(); ++index) {
    const bool is_first = index == 0;
    const bool is_last = index + 1 == block.chunk_count();
    const Run chunk = block.chunk(index);
    const Panel keys(is_first ? input.global_count() : 0, chunk, channels, key_memory);
    const Panel values(keys.globals, chunk, channels, value_memory);
    keys.pack(globals, width, row, places(0), channels);
    values.pack(globals, 2 * width, row, places(1), channels);
    for (std::size_t at = 0; at < block.tiles.size(); ++at) {
      const Tile& tile = block.tiles[at];
      Running& own = running[several ? at : 0];
      if (is_first) own.fresh = true;
      const index_t here = tile.first - input.first;
      const Pieces pieces{is_first ? tile.globals : 0, overlap(tile.band, chunk)};
      if (pieces.count() > 0) {
        pack_queries(queries + here * row, tile.count);
        attend(tile, pieces, keys, values, positions, channels, transposed, own, scores);
      }
      if (is_last) {
        finish(tile.count, own, channels, output.out + here * width, width, output.log_sum + here);
      }
    }
    for (const Tile& tile : block.global) {
      const Pieces pieces{0, overlap(tile.band, overlap(block.queries, chunk))};
      if (pieces.count() == 0) continue;
      pack_queries(globals + tile.first * row, tile.count);
      load_sums(tile, output.sums, channels, carried);
      attend(tile, pieces, keys, values, positions, channels, transposed, carried, scores);
      store_sums(tile, carried, channels, output.sums);
    }
  }
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(attention_block);

std::span<float> CpuKernels::scratch_of(index_t floats) {
  if (scratch_.size() < floats) scratch_ = Buffer(floats);
  return scratch_.span();
}

void CpuKernels::each_head(const AttentionInput& input, const AttentionStrip& strip,
                           const HeadTask& task) {
  std::vector<std::vector<Block>> blocks;
  for (index_t sequence = 0; sequence < strip.sequences; ++sequence) {
    blocks.push_back(blocks_of(input, strip, strip.first_sequence + sequence));
  }
  const index_t floats = attention_floats(input);
  const index_t items = strip.sequences * input.heads;
  const auto threads = static_cast<int>(std::min(threads_, items));
  const std::span<float> scratch = scratch_of(threads * floats);
  // A head of a sequence is one thread's from its first block to its last: no sum depends on how
  // many threads there are.
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (index_t item = 0; item < items; ++item) {
    const auto own = static_cast<std::size_t>(omp_get_thread_num() * floats);
    for (const Block& block : blocks[static_cast<std::size_t>(item / input.heads)]) {
      task(block, item % input.heads, scratch.subspan(own, static_cast<std::size_t>(floats)));
    }
  }
}

void CpuKernels::attention(const AttentionInput& input, const AttentionStrip& strip, Matrix out,
                           Vector log_sum, Matrix global_sums) {
  check_attention(input, strip);
  const index_t tokens = input.tokens();
  const index_t queries = input.global_queries();
  const index_t channels = input.channels();
  WEIR_ASSERT(out.extent(0) == input.qkv.extent(0) && out.extent(1) == input.width());
  WEIR_ASSERT(std::ssize(log_sum) == input.qkv.extent(0) * input.heads);
  WEIR_ASSERT(global_sums.extent(0) == input.sequences() * input.heads * queries);
  WEIR_ASSERT(queries == 0 || global_sums.extent(1) == channels + 2);
  progress();
  if (strip.tokens.begin == 0) {
    const index_t row = strip.first_sequence * input.heads * queries;
    const index_t end = row + strip.sequences * input.heads * queries;
    for (index_t r = row; r < end; ++r) {
      std::fill_n(global_sums[r].data(), channels + 2, 0.0F);
      global_sums(r, channels) = -std::numeric_limits<float>::infinity();
    }
  }
  each_head(input, strip, [&](const Block& block, index_t head, std::span<float> scratch) {
    const index_t item = block.sequence * input.heads + head;
    HWY_DYNAMIC_DISPATCH(attention_block)
    (input, block, head,
     {.out = out.data() + block.sequence * tokens * input.width() + head * channels,
      .log_sum = log_sum.data() + item * tokens,
      .sums = start_of(global_sums, item * queries * (channels + 2))},
     Scratch(scratch));
  });
}

void CpuKernels::merge_global_sums(ConstMatrix parts, index_t sequences, index_t heads, Matrix out,
                                   Vector log_sum) {
  const index_t queries = out.extent(0) / sequences;
  const index_t channels = out.extent(1) / heads;
  const index_t rows = std::ssize(log_sum);
  WEIR_ASSERT(rows > 0 && rows == sequences * heads * queries);
  WEIR_ASSERT(parts.extent(0) % rows == 0 && parts.extent(1) == channels + 2);
  const index_t contexts = parts.extent(0) / rows;
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  for (index_t r = 0; r < rows; ++r) {
    const index_t sequence = r / (heads * queries);
    const index_t head = r / queries % heads;
    float* to = out[sequence * queries + r % queries].data() + head * channels;
    std::fill_n(to, channels, 0.0F);
    float maximum = kNothing;
    for (index_t c = 0; c < contexts; ++c) {
      maximum = std::max(maximum, parts(c * rows + r, channels));
    }
    float sum = 0;
    for (index_t c = 0; c < contexts && maximum != kNothing; ++c) {
      const float* part = parts[c * rows + r].data();
      const float factor = std::exp(part[channels] - maximum);
      sum += factor * part[channels + 1];
      for (index_t k = 0; k < channels; ++k) to[k] += factor * part[k];
    }
    log_sum[static_cast<std::size_t>(r)] = sum == 0 ? kNothing : maximum + std::log(sum);
    for (index_t k = 0; k < channels && sum != 0; ++k) to[k] /= sum;
  }
}

}  // namespace weir::worker
#endif
