#include <cmath>

#include "worker/kernels/cpu/attention.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/simd.hpp"

#define HWY_TARGET_INCLUDE "worker/kernels/cpu/attention_backward.cpp"
#include <hwy/foreach_target.h>
//
#include "worker/kernels/cpu/attention-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weir::worker::HWY_NAMESPACE {
namespace {

/// Where the queries of a head and the results of forward are in memory, for local or for global
/// queries.
template <class T>
struct QueryRows {
  const T* query;
  index_t query_row;
  const T* out;
  const T* out_gradient;
  index_t out_row;
  const float* log_sum;
  index_t log_sum_step;
  index_t skipped;  ///< query r is row r - skipped of out_gradient
};

/// Queries of a tile, or gradients of their output, in two forms: for sums over queries
/// [kTile / kTerms, columns] and for sums over channels [columns / kTerms, kTile].
template <class E>
struct QueryTile {
  E* packed;  ///< the rows [kTile, columns / kTerms]; for floats the same as by_query
  E* by_query;
  E* by_channel;

  QueryTile(index_t columns, ThreadScratch& scratch)
      : packed(reinterpret_cast<E*>(scratch.take(kTile * columns))),
        by_query(kTerms<E> == 1 ? packed : packed + kTile * columns / kTerms<E>),
        by_channel(reinterpret_cast<E*>(scratch.take(kTile * columns))) {}

  template <class T>
  void load(const T* from, index_t from_row, index_t count, index_t channels, float scale) const {
    const index_t columns = padded(channels);
    pack_rows(from, from_row, count, channels, scale, packed);
    transpose_tile(packed, count, columns / kTerms<E>, by_channel);
    if constexpr (std::is_same_v<E, Pair>) join_rows(packed, count, columns, by_query);
  }
};

/// What the backward of a tile needs of its queries.
template <class E>
struct Upstream {
  QueryTile<E> query;  ///< multiplied by ScoreScale::of_queries
  QueryTile<E> out_gradient;
  float* log_sum;  ///< [kTile]
  float* drift;    ///< [kTile], inner product of output and its gradient

  Upstream(index_t columns, ThreadScratch& scratch)
      : query(columns, scratch),
        out_gradient(columns, scratch),
        log_sum(scratch.take(kTile)),
        drift(scratch.take(kTile)) {}

  /// Loads `count` queries, beginning with query `first`.
  template <class T>
  void load(const QueryRows<T>& rows, index_t first, index_t count, index_t channels) const {
    const float scale = score_scale<E>(channels).of_queries;
    const T* const gradient = rows.out_gradient + (first - rows.skipped) * rows.out_row;
    query.load(rows.query + first * rows.query_row, rows.query_row, count, channels, scale);
    out_gradient.load(gradient, rows.out_row, count, channels, 1);
    std::fill_n(log_sum, kTile, 0.0F);
    std::fill_n(drift, kTile, 0.0F);
    for (index_t i = 0; i < count; ++i) {
      // A query that sees nothing: exp(-infinity - 0) = 0, not NaN.
      const float log = rows.log_sum[(first + i) * rows.log_sum_step];
      log_sum[i] = log == -kInfinity ? 0 : log;
      fetch_ahead(rows.out + (first + i) * rows.out_row, rows.out_row, channels);
      drift[i] = map_sum(
          channels, [](V a, V b) HWY_ATTR { return hn::Mul(a, b); }, gradient + i * rows.out_row,
          rows.out + (first + i) * rows.out_row);
    }
  }
};

/// The panels of a head's chunk, and those of their gradients.
template <class E>
struct Panels {
  Panel<E> key;
  Panel<E> value;
  Panel<float> key_gradient;
  Panel<float> value_gradient;
};

/// Turns scores (in `weights`) into p = exp(score - log_sum), and gradients of p (in `slopes`) into
/// gradients of the scores, p * (slope - drift). Kernels::attention_backward has the formulas;
/// drift is D there.
void score_gradients(index_t rows, const float* log_sums, const float* drifts, float* weights,
                     float* slopes) {
  for (index_t lane = 0; lane < kTile; lane += kLanes) {
    const V log_sum = load(log_sums + lane);
    const V drift = load(drifts + lane);
    for (index_t r = 0; r < rows; ++r) {
      const index_t at = r * kTile + lane;
      const V weight = exponential(hn::Sub(load(weights + at), log_sum));
      store(weight, weights + at);
      store(hn::Mul(weight, hn::Sub(load(slopes + at), drift)), slopes + at);
    }
  }
}

/// Adds the gradients between a tile and the keys of the pieces: to keys and values in the panels,
/// and to query_gradient [kTile, columns], which is for queries as they are packed and is
/// overwritten unless `accumulate`.
template <class E>
void attend_backward(const Tile& tile, const KeyPieces& pieces, const Panels<E>& panels,
                     const Globals& globals, index_t channels, const Upstream<E>& upstream,
                     bool accumulate, float* query_gradient, float* weights, float* slopes,
                     float* spare) {
  const float rest = score_scale<E>(channels).of_scores;
  multiply_pieces(panels.key, pieces, tile, channels, upstream.query.by_channel, weights);
  scale_scores(pieces.count(), rest, weights);
  mask_scores(tile, pieces, globals, weights);
  multiply_pieces(panels.value, pieces, tile, channels, upstream.out_gradient.by_channel, slopes);
  score_gradients(pieces.count(), upstream.log_sum, upstream.drift, weights, slopes);
  scale_scores(pieces.count(), rest, slopes);
  combine_pieces(panels.key, pieces, tile, slopes, accumulate, query_gradient, spare);
  spread_pieces(panels.key_gradient, pieces, tile, slopes, upstream.query.by_query, spare);
  spread_pieces(panels.value_gradient, pieces, tile, weights, upstream.out_gradient.by_query,
                spare);
}

/// to[count, channels] = (or +=) gradient of the queries themselves.
template <class T>
void write_queries(index_t count, index_t channels, float factor, const float* query_gradient,
                   bool accumulate, T* to, index_t to_row) {
  const V scale = set(factor);
  for (index_t i = 0; i < count; ++i) {
    T* row = to + i * to_row;
    const float* from = query_gradient + i * padded(channels);
    fetch_ahead(row, to_row, channels);
    if (accumulate) {
      map(
          channels, row, [scale](V sum, V v) HWY_ATTR { return hn::MulAdd(v, scale, sum); }, row,
          from);
    } else {
      map(
          channels, row, [scale](V v) HWY_ATTR { return hn::Mul(v, scale); }, from);
    }
  }
}

template <class T>
void add_rows(const float* from, index_t count, index_t channels, T* to, index_t to_row) {
  for (index_t r = 0; r < count; ++r, to += to_row, from += padded(channels)) {
    map(
        channels, to, [](V a, V b) HWY_ATTR { return hn::Add(a, b); }, to, from);
  }
}

/// Adds a panel's rows to the gradients of their tokens; the rows of tokens here from `fresh` on
/// are overwritten instead.
template <class T>
void write_panel(const Panel<float>& panel, const Places<T>& places, index_t fresh,
                 index_t channels, float* global, index_t global_column, index_t global_row) {
  if (panel.globals > 0) {
    add_rows(panel.by_channel, panel.globals, channels, global + global_column, global_row);
  }
  places.each(panel.run, [&](Interval part, T* to, index_t to_row) HWY_ATTR {
    const bool here = places.all[1].run.holds(part.begin);
    const index_t middle = here ? std::clamp(fresh, part.begin, part.end) : part.end;
    add_rows(panel.row(part.begin), middle - part.begin, channels, to, to_row);
    for (index_t key = middle; key < part.end; ++key) {
      fetch_ahead(to + (key - part.begin) * to_row, to_row, channels);
      map(
          channels, to + (key - part.begin) * to_row, [](V v) HWY_ATTR { return v; },
          panel.row(key));
    }
  });
}

/// Backward of one head for a block: all queries of the block; and for the global queries, the keys
/// that are the block's own. T: elements in memory; E: what tiles are multiplied as.
template <class T, class E>
void attention_backward_head(const AttentionInput& input, const AttentionStrip& strip,
                             const AttentionOutput& output, const AttentionGradients& gradients,
                             const Block& block, index_t head, ThreadScratch scratch) {
  const index_t channels = input.channels();
  const index_t columns = padded(channels);
  const index_t width = input.width();
  const index_t row = 3 * width;
  const float scale = score_scale<E>(channels).of_queries;
  const index_t item = block.sequence * input.heads + head;
  const index_t column = head * channels;
  const index_t here = block.sequence * input.tokens();         // first row of this sequence
  const index_t there = block.sequence * input.global_count();  // first of its global rows
  const index_t queries = input.global_queries();
  const Globals& positions = input.sparsity->globals;
  const T* globals = start_of<T>(input.globals, there * row + column);
  float* global_gradient = start_of<float>(gradients.globals, there * row + column);
  T* query_gradient = start_of<T>(gradients.qkv, here * row + column);
  // Rows of the strip's own tensors that lie before the sequence's token 0.
  const index_t skipped =
      strip.tokens.begin - (block.sequence - strip.first_sequence) * strip.tokens.count();
  const QueryRows<T> local_rows{start_of<T>(input.qkv, here * row + column),
                                row,
                                start_of<T>(output.out, here * width + column),
                                start_of<T>(output.out_gradient, column),
                                width,
                                as<float>(output.log_sum).data() + item * input.tokens(),
                                1,
                                skipped};
  const QueryRows<T> global_rows{
      globals,
      row,
      start_of<T>(output.global_out, there * width + column),
      start_of<T>(output.global_out_gradient, there * width + column),
      width,
      queries == 0 ? nullptr : as<float>(output.global_log_sum).data() + there * input.heads + head,
      input.heads,
      0};
  const auto places = [&](index_t part) {  // 0: keys, 1: values
    return places_of<T>(input, input.qkv, input.before, input.after, block.sequence, head, part);
  };
  const auto gradient_places = [&](index_t part) {
    return places_of<T>(input, gradients.qkv, gradients.before, gradients.after, block.sequence,
                        head, part);
  };

  const Upstream<E> upstream(columns, scratch);
  const bool several = block.chunk_count() > 1;
  // The gradients of one tile's queries, or of all tiles' if the keys come in several chunks.
  float* carried = scratch.take((several ? std::ssize(block.tiles) : index_t{1}) * kTile * columns);
  float* global_query = scratch.take(kTile * columns);
  const index_t rows = input.global_count() + std::min(kChunk + 1, block.keys.count());
  float* memory[4];
  for (float*& each : memory)
    each = scratch.take(panel_floats(rows, input.global_count(), columns));
  float* weights = scratch.take(rows * kTile);
  float* slopes = scratch.take(rows * kTile);
  float* spare = scratch.take(spare_floats(rows, input.global_count()));

  // Tokens here before `fresh` have gradients of keys and values from earlier blocks, to which is
  // added. The others get theirs first from this block: panels overwrite those of the block's keys,
  // and the rest up to `reached` become zero.
  const index_t reach = input.sparsity->right_reach();
  const Interval own{input.first, input.first + input.tokens()};
  const bool is_begin = block.queries.begin == own.begin;
  const index_t fresh = is_begin ? own.begin : std::min(own.end, block.queries.begin + reach);
  const index_t reached = std::min(own.end, block.queries.end + reach);
  for (index_t part = 0; part < 2; ++part) {  // the rows that no panel of this block writes
    const auto clear = [&](Interval run) {
      gradient_places(part).each(overlap(run, {fresh, reached}),
                                 [&](Interval some, T* to, index_t to_row) {
                                   for (index_t r = 0; r < some.count(); ++r)
                                     std::fill_n(to + r * to_row, channels, T{});
                                 });
    };
    clear({own.begin, block.keys.count() > 0 ? block.keys.begin : own.end});
    if (block.keys.count() > 0) clear({block.keys.end, own.end});
  }

  // Keys and values of a chunk are packed into panels beside panels for their gradients. Each tile
  // of queries makes its probabilities again and adds to those and to its own gradient, which is
  // written when the last chunk is done; then the panels' gradients go to where the keys lie.
  for (index_t index = 0; index < block.chunk_count(); ++index) {
    const bool is_first = index == 0;
    const bool is_last = index + 1 == block.chunk_count();
    const Interval chunk = block.chunk(index);
    const index_t with = is_first ? input.global_count() : 0;
    const Panels<E> panels{{with, chunk, channels, memory[0]},
                           {with, chunk, channels, memory[1]},
                           {with, chunk, channels, memory[2]},
                           {with, chunk, channels, memory[3]}};
    panels.key.pack(globals, width, row, places(0), channels, true);
    panels.value.pack(globals, 2 * width, row, places(1), channels, false);
    for (const Panel<float>* each : {&panels.key_gradient, &panels.value_gradient}) {
      std::fill_n(each->by_channel, each->rows() * columns, 0.0F);
    }
    for (std::size_t at = 0; at < block.tiles.size(); ++at) {
      const Tile& tile = block.tiles[at];
      float* tile_gradient = carried + (several ? static_cast<index_t>(at) * kTile * columns : 0);
      const index_t first = tile.first - input.first;
      const KeyPieces pieces{is_first ? tile.globals : 0, overlap(tile.band, chunk)};
      if (is_first && pieces.count() == 0) std::fill_n(tile_gradient, kTile * columns, 0.0F);
      if (pieces.count() > 0) {
        upstream.load(local_rows, first, tile.count, channels);
        attend_backward(tile, pieces, panels, positions, channels, upstream, !is_first,
                        tile_gradient, weights, slopes, spare);
      }
      if (is_last) {
        write_queries(tile.count, channels, scale, tile_gradient, false,
                      query_gradient + first * row, row);
      }
    }
    for (const Tile& tile : block.global) {
      const KeyPieces pieces{0, overlap(tile.band, overlap(block.queries, chunk))};
      if (pieces.count() == 0) continue;
      upstream.load(global_rows, tile.first, tile.count, channels);
      attend_backward(tile, pieces, panels, positions, channels, upstream, false, global_query,
                      weights, slopes, spare);
      write_queries(tile.count, channels, scale, global_query, true,
                    global_gradient + tile.first * row, row);
    }
    write_panel(panels.key_gradient, gradient_places(0), fresh, channels, global_gradient, width,
                row);
    write_panel(panels.value_gradient, gradient_places(1), fresh, channels, global_gradient,
                2 * width, row);
  }
}

void attention_backward_block(const AttentionInput& input, const AttentionStrip& strip,
                              const AttentionOutput& output, const AttentionGradients& gradients,
                              const Block& block, index_t head, ThreadScratch scratch) {
  by_dtype(input.qkv.dtype(), [&]<class T>() HWY_ATTR {
    if constexpr (kKnowsPairs && std::is_same_v<T, Bf16>) {
      if (has_pair_products()) {
        return attention_backward_head<T, Pair>(input, strip, output, gradients, block, head,
                                                scratch);
      }
    }
    attention_backward_head<T, float>(input, strip, output, gradients, block, head, scratch);
  });
}

}  // namespace
}  // namespace weir::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir::worker {

HWY_EXPORT(attention_backward_block);

void CpuKernels::attention_backward(const AttentionInput& input, const AttentionStrip& strip,
                                    const AttentionOutput& output,
                                    const AttentionGradients& gradients) {
  check_attention(input, strip);
  const index_t queries = input.sequences() * input.global_queries();
  WEIR_ASSERT(output.out.extent(0) == input.qkv.extent(0));
  WEIR_ASSERT(output.out.extent(1) == input.width());
  WEIR_ASSERT(output.out_gradient.extent(0) == strip.sequences * strip.tokens.count());
  WEIR_ASSERT(output.out_gradient.extent(1) == input.width());
  WEIR_ASSERT(output.log_sum.size() == input.qkv.extent(0) * input.heads);
  WEIR_ASSERT(queries == 0 || output.global_out.extent(0) == queries);
  WEIR_ASSERT(queries == 0 || output.global_out_gradient.has_shape_of(output.global_out));
  WEIR_ASSERT(output.global_log_sum.size() >= queries * input.heads);
  WEIR_ASSERT(gradients.qkv.has_shape_of(input.qkv));
  WEIR_ASSERT(gradients.before.has_shape_of(input.before));
  WEIR_ASSERT(gradients.after.has_shape_of(input.after));
  WEIR_ASSERT(gradients.globals.has_shape_of(input.globals));
  progress();
  each_head(input, strip, [&](const Block& block, index_t head, std::span<float> scratch) {
    HWY_DYNAMIC_DISPATCH(attention_backward_block)
    (input, strip, output, gradients, block, head, ThreadScratch(scratch));
  });
}

}  // namespace weir::worker
#endif
