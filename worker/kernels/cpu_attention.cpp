#include "worker/kernels/cpu_attention.hpp"

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

/// Takes the keys of the pieces into a tile's softmax; `fresh`: they are the first.
/// queries: [C, kTile], transposed and scaled.
void attend(const Tile& tile, const Pieces& pieces, const Panel& keys, const Panel& values,
            index_t channels, const float* queries, bool fresh, Running& running, float* scores) {
  multiply_pieces(keys, pieces, channels, queries, scores);
  mask_scores(tile, pieces, scores);
  if (fresh) {
    std::fill_n(running.maximum, kTile, -kInfinity);
    std::fill_n(running.sum, kTile, 0.0F);
  }
  HWY_ALIGN float correction[kTile];
  exponentials(scores, pieces[0].size() + pieces[1].size(), tile.blind, running, correction);
  for (index_t i = 0; i < tile.count && !fresh; ++i) {
    float* row = running.out + i * values.columns;
    const V factor = set(correction[i]);
    map(
        values.columns, row, [factor](V v) HWY_ATTR { return hn::Mul(v, factor); }, row);
  }
  combine_pieces(values, pieces, scores, tile.count, !fresh, running.out);
}

/// Writes a tile's output and log_sum.
void finish(const Tile& tile, const Running& running, index_t channels, float* out, index_t out_row,
            float* log_sum) {
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
  std::copy_n(logarithm, tile.count, log_sum + tile.first);
  for (index_t i = 0; i < tile.count; ++i) {
    const V scale = set(inverse[i]);
    map(
        channels, out + (tile.first + i) * out_row,
        [scale](V v) HWY_ATTR { return hn::Mul(v, scale); }, running.out + i * padded(channels));
  }
}

/// The queries of one strip, and the strip's keys for the global queries.
void attention_strip(const AttentionSample& sample, index_t begin, float* out, float* log_sum,
                     Scratch scratch) {
  const Strip strip(begin, sample);
  const index_t channels = sample.channels();
  const index_t columns = padded(channels);
  const index_t row = sample.qkv.extent(1);
  const float scale = 1 / std::sqrt(static_cast<float>(channels));
  const auto pack_queries = [&](const Tile& tile, const float* query, float* packed,
                                float* transposed) HWY_ATTR {
    pack_rows(query + tile.first * row, row, tile.count, channels, scale, packed);
    transpose_tile(packed, tile.count, columns, transposed);
  };
  Scratch lasting = scratch.part(global_floats(sample));
  float* packed = scratch.take(kTile * columns);
  float* transposed = scratch.take(kTile * columns);
  Running local(columns, scratch);
  const Panel keys(strip.keys, channels, scratch);
  const Panel values(strip.keys, channels, scratch);
  float* scores = scratch.take(strip.keys.size() * kTile);

  for (index_t head = 0; head < sample.heads; ++head) {
    const float* query = sample.qkv.data() + head * channels;
    float* head_out = out + head * channels;
    float* head_log_sum = log_sum + head * sample.tokens();
    keys.pack(query + sample.width(), row, channels);
    values.pack(query + 2 * sample.width(), row, channels);
    for (const Tile& tile : strip.tiles()) {
      pack_queries(tile, query, packed, transposed);
      attend(tile, all_pieces(tile), keys, values, channels, transposed, true, local, scores);
      finish(tile, local, channels, head_out, sample.width(), head_log_sum);
    }
    for (index_t first = 0; first < sample.global_queries(); first += kTile) {
      const Tile tile(first, sample.global_queries(), sample);
      Running global(columns, lasting);
      pack_queries(tile, query, packed, transposed);
      attend(tile, owned_pieces(tile, strip), keys, values, channels, transposed, begin == 0,
             global, scores);
      if (strip.tokens.end == sample.tokens()) {
        finish(tile, global, channels, head_out, sample.width(), head_log_sum);
      }
    }
  }
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(attention_strip);

std::span<float> CpuKernels::scratch_of(index_t floats) {
  if (scratch_.size() < floats) scratch_ = Buffer(floats);
  return scratch_.span();
}

void CpuKernels::attention(ConstMatrix qkv, index_t heads, std::span<const index_t> lengths,
                           const Sparsity& sparsity, Matrix out, Vector log_sum) {
  const index_t tokens = check_attention(qkv, heads, lengths, sparsity);
  WEIR_ASSERT(out.extent(0) == qkv.extent(0) && 3 * out.extent(1) == qkv.extent(1));
  WEIR_ASSERT(std::ssize(log_sum) == qkv.extent(0) * heads);
  for (index_t b = 0; b < std::ssize(lengths); ++b) {
    const AttentionSample sample{qkv.rows(b * tokens, tokens), heads,
                                 lengths[static_cast<std::size_t>(b)], sparsity};
    const Scratch scratch(scratch_of(attention_floats(sample)));
    for (index_t begin = 0; begin < tokens; begin += kStrip) {
      progress();
      HWY_DYNAMIC_DISPATCH(attention_strip)
      (sample, begin, out[b * tokens].data(), log_sum.data() + b * heads * tokens, scratch);
    }
  }
}

}  // namespace weir::worker
#endif
