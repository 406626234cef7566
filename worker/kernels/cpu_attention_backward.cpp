#include <cmath>

#include "worker/kernels/cpu.hpp"
#include "worker/kernels/cpu_attention.hpp"
#include "worker/kernels/cpu_simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu_attention_backward.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu_attention-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

/// What the backward of a tile needs of its queries, as rows [kTile, columns] and transposed.
struct Upstream {
  float* query;  ///< divided by sqrt(C)
  float* query_transposed;
  float* out_gradient;
  float* out_gradient_transposed;
  float* log_sum;  ///< [kTile]
  float* drift;    ///< [kTile], inner product of output and its gradient

  Upstream(index_t columns, Scratch& scratch)
      : query(scratch.take(kTile * columns)),
        query_transposed(scratch.take(kTile * columns)),
        out_gradient(scratch.take(kTile * columns)),
        out_gradient_transposed(scratch.take(kTile * columns)),
        log_sum(scratch.take(kTile)),
        drift(scratch.take(kTile)) {}
};

/// The parts of a head's strip.
struct Panels {
  Panel key;
  Panel value;
  Panel key_gradient;
  Panel value_gradient;

  Panels(const Keys& keys, index_t channels, Scratch& scratch)
      : key(keys, channels, scratch),
        value(keys, channels, scratch),
        key_gradient(keys, channels, scratch),
        value_gradient(keys, channels, scratch) {}
};

void load_tile(const Tile& tile, const AttentionBackward& call, index_t head,
               const Upstream& upstream) {
  const AttentionSample& sample = call.sample;
  const index_t channels = sample.channels();
  const index_t columns = padded(channels);
  const index_t row = sample.qkv.extent(1);
  const index_t width = sample.width();
  const float scale = 1 / std::sqrt(static_cast<float>(channels));
  const index_t at = tile.first * width + head * channels;
  pack_rows(sample.qkv.data() + tile.first * row + head * channels, row, tile.count, channels,
            scale, upstream.query);
  transpose_tile(upstream.query, tile.count, columns, upstream.query_transposed);
  pack_rows(call.out_gradient + at, width, tile.count, channels, 1, upstream.out_gradient);
  transpose_tile(upstream.out_gradient, tile.count, columns, upstream.out_gradient_transposed);
  std::fill_n(upstream.log_sum, kTile, 0.0F);
  std::fill_n(upstream.drift, kTile, 0.0F);
  for (index_t i = 0; i < tile.count; ++i) {
    const float log_sum = call.log_sum[head * sample.tokens() + tile.first + i];
    // A query that sees nothing: exp(-infinity - 0) = 0, not NaN.
    upstream.log_sum[i] = log_sum == -kInfinity ? 0 : log_sum;
    upstream.drift[i] = map_sum(
        channels, [](V a, V b) HWY_ATTR { return hn::Mul(a, b); },
        upstream.out_gradient + i * columns, call.out + at + i * width);
  }
}

/// weights become exp(score - log_sum), slopes (gradients of the weights) gradients of the scores.
void score_gradients(index_t rows, const Upstream& upstream, float* weights, float* slopes) {
  for (index_t lane = 0; lane < kTile; lane += kLanes) {
    const V log_sum = load(upstream.log_sum + lane);
    const V drift = load(upstream.drift + lane);
    for (index_t r = 0; r < rows; ++r) {
      const index_t at = r * kTile + lane;
      const V weight = exponential(hn::Sub(load(weights + at), log_sum));
      store(weight, weights + at);
      store(hn::Mul(weight, hn::Sub(load(slopes + at), drift)), slopes + at);
    }
  }
}

/// Adds what a tile and the keys of the pieces mean for each other. The gradient of the queries
/// [kTile, columns] is for queries divided by sqrt(C).
void attend_backward(const Tile& tile, const Pieces& pieces, const Panels& panels, index_t channels,
                     const Upstream& upstream, bool fresh, float* query_gradient, float* weights,
                     float* slopes) {
  multiply_pieces(panels.key, pieces, channels, upstream.query_transposed, weights);
  mask_scores(tile, pieces, weights);
  multiply_pieces(panels.value, pieces, channels, upstream.out_gradient_transposed, slopes);
  score_gradients(pieces[0].size() + pieces[1].size(), upstream, weights, slopes);
  combine_pieces(panels.key, pieces, slopes, tile.count, !fresh, query_gradient);
  spread_pieces(panels.key_gradient, pieces, slopes, tile.count, upstream.query);
  spread_pieces(panels.value_gradient, pieces, weights, tile.count, upstream.out_gradient);
}

void finish(const Tile& tile, index_t channels, const float* query_gradient, float* to,
            index_t to_row) {
  const V scale = set(1 / std::sqrt(static_cast<float>(channels)));
  for (index_t i = 0; i < tile.count; ++i) {
    map(
        channels, to + (tile.first + i) * to_row,
        [scale](V v) HWY_ATTR { return hn::Mul(v, scale); }, query_gradient + i * padded(channels));
  }
}

/// Rows of qkv's gradient += rows of a panel.
void add_panel(const Panel& panel, index_t channels, float* to, index_t to_row) {
  const auto sum = [](V a, V b) HWY_ATTR { return hn::Add(a, b); };
  for (const Run& run : {panel.keys.globals, panel.keys.band}) {
    const float* from = panel.rows(run);
    for (index_t token = run.begin; token < run.end; ++token, from += panel.columns) {
      map(channels, to + token * to_row, sum, to + token * to_row, from);
    }
  }
}

/// The queries of one strip, and the strip's keys for the global queries. Keys and values have
/// gradients, zero or more, up to token `reached`; the strip brings this forward.
void attention_backward_strip(const AttentionBackward& call, index_t begin, index_t& reached,
                              Scratch scratch) {
  const AttentionSample& sample = call.sample;
  const Strip strip(begin, sample);
  const index_t channels = sample.channels();
  const index_t columns = padded(channels);
  const index_t row = sample.qkv.extent(1);
  const index_t width = sample.width();
  const bool last = strip.tokens.end == sample.tokens();
  const index_t reach =
      last ? sample.tokens() : std::max(strip.keys.globals.end, strip.keys.band.end);
  for (; reached < reach; ++reached) {
    std::fill_n(call.qkv_gradient + reached * row + width, 2 * width, 0.0F);
  }

  Scratch lasting = scratch.part(global_floats(sample));
  const Upstream upstream(columns, scratch);
  float* query_gradient = scratch.take(kTile * columns);
  const Panels panels(strip.keys, channels, scratch);
  float* weights = scratch.take(strip.keys.size() * kTile);
  float* slopes = scratch.take(strip.keys.size() * kTile);
  for (index_t head = 0; head < sample.heads; ++head) {
    const float* query = sample.qkv.data() + head * channels;
    float* head_gradient = call.qkv_gradient + head * channels;
    panels.key.pack(query + width, row, channels);
    panels.value.pack(query + 2 * width, row, channels);
    std::fill_n(panels.key_gradient.data, strip.keys.size() * columns, 0.0F);
    std::fill_n(panels.value_gradient.data, strip.keys.size() * columns, 0.0F);
    for (const Tile& tile : strip.tiles()) {
      load_tile(tile, call, head, upstream);
      attend_backward(tile, all_pieces(tile), panels, channels, upstream, true, query_gradient,
                      weights, slopes);
      finish(tile, channels, query_gradient, head_gradient, row);
    }
    for (index_t first = 0; first < sample.global_queries(); first += kTile) {
      const Tile tile(first, sample.global_queries(), sample);
      float* global_gradient = lasting.take(kTile * columns);
      load_tile(tile, call, head, upstream);
      attend_backward(tile, owned_pieces(tile, strip), panels, channels, upstream, begin == 0,
                      global_gradient, weights, slopes);
      if (last) finish(tile, channels, global_gradient, head_gradient, row);
    }
    add_panel(panels.key_gradient, channels, head_gradient + width, row);
    add_panel(panels.value_gradient, channels, head_gradient + 2 * width, row);
  }
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(attention_backward_strip);

void CpuKernels::attention_backward(ConstMatrix qkv, index_t heads,
                                    std::span<const index_t> lengths, const Sparsity& sparsity,
                                    ConstMatrix out, ConstVector log_sum, ConstMatrix out_gradient,
                                    Matrix qkv_gradient) {
  const index_t tokens = check_attention(qkv, heads, lengths, sparsity);
  WEIR_ASSERT(out.extent(0) == qkv.extent(0) && 3 * out.extent(1) == qkv.extent(1));
  WEIR_ASSERT(out.extents() == out_gradient.extents());
  WEIR_ASSERT(qkv.extents() == qkv_gradient.extents());
  WEIR_ASSERT(std::ssize(log_sum) == qkv.extent(0) * heads);
  for (index_t b = 0; b < std::ssize(lengths); ++b) {
    const AttentionSample sample{qkv.rows(b * tokens, tokens), heads,
                                 lengths[static_cast<std::size_t>(b)], sparsity};
    const AttentionBackward call{sample, out[b * tokens].data(),
                                 log_sum.data() + b * heads * tokens,
                                 out_gradient[b * tokens].data(), qkv_gradient[b * tokens].data()};
    const Scratch scratch(scratch_of(attention_floats(sample)));
    index_t reached = 0;
    for (index_t begin = 0; begin < tokens; begin += kStrip) {
      progress();
      HWY_DYNAMIC_DISPATCH(attention_backward_strip)(call, begin, reached, scratch);
    }
  }
}

}  // namespace weir::worker
#endif
