#include "worker/kernels/cpu/attention.hpp"

#include <omp.h>

#include <cmath>

#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/attention.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/contrib/math/math-inl.h>

#include "worker/kernels/cpu/attention-inl.hpp"

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

  Running(index_t columns, ThreadScratch& scratch)
      : maximum(scratch.take(kTile)),
        sum(scratch.take(kTile)),
        out(scratch.take(kTile * columns)) {}
};

/// Turns scores into exp(score - maximum) and adds them to the sum. correction: the factor for the
/// sum and output so far, since the maximum may have grown.
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

/// Continues a tile's softmax over the keys of the pieces. queries: [C / kTerms, kTile], transposed
/// and scaled.
template <class E>
void attend(const Tile& tile, const KeyPieces& pieces, const Panel<E>& keys, const Panel<E>& values,
            const Globals& globals, index_t channels, const E* queries, Running& running,
            float* scores, float* spare) {
  multiply_pieces(keys, pieces, tile, channels, queries, scores);
  scale_scores(pieces.count(), score_scale<E>(channels).of_scores, scores);
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
  combine_pieces(values, pieces, tile, scores, !running.fresh, running.out, spare);
  running.fresh = false;
}

/// Writes a tile's output rows and its log_sum.
template <class T>
void finish(index_t count, const Running& running, index_t channels, T* out, index_t out_row,
            float* log_sum) {
  if (running.fresh) {  // no query of the tile has seen a key
    std::fill_n(log_sum, count, -kInfinity);
    for (index_t i = 0; i < count; ++i) std::fill_n(out + i * out_row, channels, T{});
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
    fetch_ahead(out + i * out_row, out_row, channels);
    const V scale = set(inverse[i]);
    map(
        channels, out + i * out_row, [scale](V v) HWY_ATTR { return hn::Mul(v, scale); },
        running.out + i * padded(channels));
  }
}

/// Move the softmaxes of a tile of global queries from memory to lanes, and back.
template <class T>
void load_softmax(const Tile& tile, const HeadOutput<T>& from, const AttentionInput& input,
                  Running& running) {
  const index_t channels = input.channels();
  std::fill_n(running.maximum, kTile, -kInfinity);
  std::fill_n(running.sum, kTile, 0.0F);
  for (index_t i = 0; i < tile.count; ++i) {
    const index_t query = tile.first + i;
    float* row = running.out + i * padded(channels);
    std::copy_n(from.weighted + query * input.width(), channels, row);
    std::fill_n(row + channels, padded(channels) - channels, 0.0F);
    running.maximum[i] = from.maximum[query * input.heads];
    running.sum[i] = from.sum[query * input.heads];
  }
  running.fresh = false;
}
template <class T>
void store_softmax(const Tile& tile, const Running& running, const AttentionInput& input,
                   const HeadOutput<T>& to) {
  const index_t channels = input.channels();
  for (index_t i = 0; i < tile.count; ++i) {
    const index_t query = tile.first + i;
    std::copy_n(running.out + i * padded(channels), channels, to.weighted + query * input.width());
    to.maximum[query * input.heads] = running.maximum[i];
    to.sum[query * input.heads] = running.sum[i];
  }
}

/// Attention of one head for a block: all queries of the block; and for the global queries, the
/// keys that are the block's own. T: elements in memory; E: what tiles are multiplied as.
template <class T, class E>
void attention_head(const AttentionInput& input, const Block& block, index_t head,
                    const HeadOutput<T>& output, ThreadScratch scratch) {
  const index_t channels = input.channels();
  const index_t columns = padded(channels);
  const index_t width = input.width();
  const index_t row = 3 * width;
  const float scale = score_scale<E>(channels).of_queries;
  const T* queries =
      start_of<T>(input.qkv, block.sequence * input.tokens() * row + head * channels);
  const T* globals =
      start_of<T>(input.globals, block.sequence * input.global_count() * row + head * channels);
  const Globals& positions = input.sparsity->globals;
  const auto places = [&](index_t part) {
    return places_of<T>(input, input.qkv, input.before, input.after, block.sequence, head, part);
  };

  auto* packed = reinterpret_cast<E*>(scratch.take(kTile * columns));
  auto* transposed = reinterpret_cast<E*>(scratch.take(kTile * columns));
  const auto pack_queries = [&](const T* from, index_t count) HWY_ATTR {
    pack_rows(from, row, count, channels, scale, packed);
    transpose_tile(packed, count, columns / kTerms<E>, transposed);
  };
  // If the keys come in several chunks, every tile's softmax is kept until the last one. One tile's
  // is enough if there is one chunk. One more is for global queries.
  // If the keys come in several chunks, every tile's softmax is kept until the last one. One tile's
  // is enough if there is one chunk. One more is for global queries.
  std::vector<Running> running;
  const bool several = block.chunk_count() > 1;
  for (std::size_t i = 0; i <= (several ? block.tiles.size() : 1); ++i) {
    running.emplace_back(columns, scratch);
  }
  Running& carried = running.back();  // of global queries
  const index_t rows = input.global_count() + std::min(kChunk + 1, block.keys.count());
  float* key_memory = scratch.take(panel_floats(rows, input.global_count(), columns));
  float* value_memory = scratch.take(panel_floats(rows, input.global_count(), columns));
  float* scores = scratch.take(rows * kTile);
  float* spare = scratch.take(spare_floats(rows, input.global_count()));

  // Keys and values of a chunk are packed into panels. Each tile of queries continues its softmax
  // over them and is written when the last chunk is done; global queries carry theirs on.
  for (index_t index = 0; index < block.chunk_count(); ++index) {
    const bool is_first = index == 0;
    const bool is_last = index + 1 == block.chunk_count();
    const Interval chunk = block.chunk(index);
    const Panel<E> keys(is_first ? input.global_count() : 0, chunk, channels, key_memory);
    const Panel<E> values(keys.globals, chunk, channels, value_memory);
    keys.pack(globals, width, row, places(0), channels, false);
    values.pack(globals, 2 * width, row, places(1), channels, true);
    for (std::size_t at = 0; at < block.tiles.size(); ++at) {
      const Tile& tile = block.tiles[at];
      Running& own = running[several ? at : 0];
      if (is_first) own.fresh = true;
      const index_t here = tile.first - input.first;
      const KeyPieces pieces{is_first ? tile.globals : 0, overlap(tile.band, chunk)};
      if (pieces.count() > 0) {
        pack_queries(queries + here * row, tile.count);
        attend(tile, pieces, keys, values, positions, channels, transposed, own, scores, spare);
      }
      if (is_last) {
        finish(tile.count, own, channels, output.out + here * width, width, output.log_sum + here);
      }
    }
    for (const Tile& tile : block.global) {
      const KeyPieces pieces{0, overlap(tile.band, overlap(block.queries, chunk))};
      if (pieces.count() == 0) continue;
      pack_queries(globals + tile.first * row, tile.count);
      load_softmax(tile, output, input, carried);
      attend(tile, pieces, keys, values, positions, channels, transposed, carried, scores, spare);
      store_softmax(tile, carried, input, output);
    }
  }
}

void attention_block(const AttentionInput& input, const AttentionResults& results,
                     const Block& block, index_t head, ThreadScratch scratch) {
  by_dtype(input.qkv.dtype(), [&]<class T>() HWY_ATTR {
    const HeadOutput<T> output(input, results, block.sequence, head);
    if constexpr (kKnowsPairs && std::is_same_v<T, Bf16>) {
      if (has_pair_products()) {
        return attention_head<T, Pair>(input, block, head, output, scratch);
      }
    }
    attention_head<T, float>(input, block, head, output, scratch);
  });
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
  // Goes block by block, so that all heads find the block's rows in the cache. A head of a sequence
  // is computed from its first block to its last: no sum depends on the number of threads.
  for (std::size_t at = 0; at < blocks.front().size(); ++at) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (index_t item = 0; item < items; ++item) {
      const auto own = static_cast<std::size_t>(omp_get_thread_num() * floats);
      task(blocks[item / input.heads][at], item % input.heads, scratch.subspan(own, floats));
    }
  }
}

void CpuKernels::attention(const AttentionInput& input, const AttentionStrip& strip, Matrix out,
                           Vector log_sum, Vector global_part) {
  check_attention(input, strip);
  const index_t rows = input.sequences() * input.global_queries() * input.heads;
  WEIR_ASSERT(out.extent(0) == input.qkv.extent(0) && out.extent(1) == input.width());
  WEIR_ASSERT(log_sum.size() == input.qkv.extent(0) * input.heads);
  WEIR_ASSERT(global_part.size() == rows * (input.channels() + 2));
  progress();
  const AttentionResults results{out, log_sum, global_part.first(rows),
                                 global_part.part(rows, rows),
                                 global_part.part(2 * rows, rows * input.channels())};
  if (strip.tokens.begin == 0) {
    const auto of_strip = [&](Vector values) {
      const index_t each = values.size() / input.sequences();
      return values.part(strip.first_sequence * each, strip.sequences * each);
    };
    fill(of_strip(results.maximum), -std::numeric_limits<float>::infinity());
    fill(of_strip(results.sum), 0);
    fill(of_strip(results.weighted), 0);
  }
  each_head(input, strip, [&](const Block& block, index_t head, std::span<float> scratch) {
    HWY_DYNAMIC_DISPATCH(attention_block)(input, results, block, head, ThreadScratch(scratch));
  });
}

}  // namespace weir::worker
#endif
