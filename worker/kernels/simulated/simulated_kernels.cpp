#include "worker/kernels/simulated/simulated_kernels.hpp"

#include <algorithm>

#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::worker {
namespace {

double bytes_of(ConstVector vector) { return static_cast<double>(vector.bytes().size()); }
double bytes_of(ConstMatrix matrix) { return bytes_of(matrix.flat()); }
double bytes_of(std::span<const std::int32_t> tokens) {
  return static_cast<double>(tokens.size_bytes());
}

double product_flops(index_t m, index_t n, index_t k) {
  return 2 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// Features of a head times the number of visible pairs of a query of the strip and a key, and of a
// global query and a key of the strip, over all heads and sequences.
double pair_channels(const AttentionInput& input, const AttentionStrip& strip) {
  const Sparsity& sparsity = *input.sparsity;
  index_t pairs = 0;
  for (index_t b = strip.first_sequence; b < strip.first_sequence + strip.sequences; ++b) {
    const index_t length = input.lengths[b];
    for (index_t token = strip.tokens.begin; token < strip.tokens.end; ++token) {
      const index_t query = input.first + token;
      if (!sparsity.globals.holds(query)) pairs += visible_count(query, length, sparsity);
    }
    const Interval here{input.first + strip.tokens.begin, input.first + strip.tokens.end};
    for (index_t g = 0; g < input.global_queries(); ++g) {
      const index_t query = sparsity.globals.positions()[g];
      pairs += overlap(here, {0, visible_keys(query, length, sparsity).last}).count();
    }
  }
  return static_cast<double>(pairs) * static_cast<double>(input.width());
}

// The share of the tokens here that a strip has.
double share_of(const AttentionInput& input, const AttentionStrip& strip) {
  return static_cast<double>(strip.sequences * strip.tokens.count()) /
         static_cast<double>(input.qkv.extent(0));
}

// The bytes of one row of elements of `dtype` for each token whose row of the table this shard
// holds.
double held_bytes(std::span<const std::int32_t> tokens, ConstMatrix table, index_t first_row,
                  Dtype dtype) {
  const auto held = std::ranges::count_if(tokens, [&](index_t token) {
    return token >= first_row && token < first_row + table.extent(0);
  });
  return static_cast<double>(held * table.extent(1) * weir::bytes_of(dtype));
}

}  // namespace

void SimulatedKernels::charge(double flops, double bytes) {
  charged_.seconds += std::max(flops / rates_.flops_per_s, bytes / rates_.bytes_per_s);
  charged_.flops += flops;
  charged_.bytes += bytes;
}

index_t SimulatedKernels::attention_strip(index_t heads_width) const {
  return CpuKernels().attention_strip(heads_width);
}

index_t SimulatedKernels::product_strip(index_t rows, index_t columns) const {
  return CpuKernels().product_strip(rows, columns);
}

void SimulatedKernels::pack(ConstMatrix weights, WeightUses uses) {
  charge(0, 2 * static_cast<double>(
                    packed_bytes(weights.extent(0), weights.extent(1), weights.dtype(), uses)));
}

index_t SimulatedKernels::packed_bytes(index_t rows, index_t columns, Dtype dtype,
                                       WeightUses uses) const {
  const index_t forms = (uses.multiply ? 1 : 0) + (uses.multiply_transposed ? 1 : 0);
  return forms * rows * columns * weir::bytes_of(dtype);
}

void SimulatedKernels::multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias,
                                           Matrix out) {
  charge(product_flops(out.extent(0), out.extent(1), a.extent(1)),
         bytes_of(a) + bytes_of(b) + bytes_of(bias) + bytes_of(out));
}

void SimulatedKernels::multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) {
  charge(product_flops(out.extent(0), out.extent(1), a.extent(1)),
         bytes_of(a) + bytes_of(b) + (accumulate ? 2 : 1) * bytes_of(out));
}

void SimulatedKernels::add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) {
  charge(product_flops(out.extent(0), out.extent(1), a.extent(0)),
         bytes_of(a) + bytes_of(b) + 2 * bytes_of(out));
}

void SimulatedKernels::add_column_sums(ConstMatrix a, Vector out) {
  charge(0, bytes_of(a) + 2 * bytes_of(out));
}

void SimulatedKernels::add(ConstVector from, Vector to) {
  charge(0, bytes_of(from) + 2 * bytes_of(to));
}

void SimulatedKernels::copy(ConstVector from, Vector to) {
  charge(0, bytes_of(from) + bytes_of(to));
}

void SimulatedKernels::fill(Vector to, float) { charge(0, bytes_of(to)); }

void SimulatedKernels::add_bias(ConstVector bias, Matrix to) {
  charge(0, bytes_of(bias) + 2 * bytes_of(to));
}

void SimulatedKernels::gelu(ConstVector x, Vector out) { charge(0, bytes_of(x) + bytes_of(out)); }

void SimulatedKernels::gelu_backward(Vector x, Vector gradient) {
  charge(0, 2 * bytes_of(x) + 2 * bytes_of(gradient));
}

void SimulatedKernels::dropout(const DropoutKey& key, Matrix values) {
  if (key.rate > 0) charge(0, 2 * bytes_of(values));
}

void SimulatedKernels::layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out,
                                  Vector mean, Vector inverse_deviation) {
  charge(0, bytes_of(x) + bytes_of(weight) + bytes_of(bias) + bytes_of(out) + bytes_of(mean) +
                bytes_of(inverse_deviation));
}

void SimulatedKernels::layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                                           ConstVector inverse_deviation, ConstMatrix out_gradient,
                                           Matrix x_gradient, Vector weight_gradient,
                                           Vector bias_gradient) {
  charge(0, bytes_of(x) + bytes_of(weight) + bytes_of(mean) + bytes_of(inverse_deviation) +
                bytes_of(out_gradient) + 2 * bytes_of(x_gradient) + 2 * bytes_of(weight_gradient) +
                2 * bytes_of(bias_gradient));
}

void SimulatedKernels::rotate(Matrix qkv, index_t, index_t, index_t, int) {
  charge(0, 2 * bytes_of(qkv) * 2 / 3);  // queries and keys, not values
}

void SimulatedKernels::rotate_rows(Matrix qkv, index_t, std::span<const index_t>, int) {
  charge(0, 2 * bytes_of(qkv) * 2 / 3);
}

void SimulatedKernels::attention(const AttentionInput& input, const AttentionStrip& strip,
                                 Matrix out, Vector log_sum, Vector) {
  charge(4 * pair_channels(input, strip),
         share_of(input, strip) * (bytes_of(input.qkv) + bytes_of(out) + bytes_of(log_sum)));
}

void SimulatedKernels::attention_backward(const AttentionInput& input, const AttentionStrip& strip,
                                          const AttentionOutput& output,
                                          const AttentionGradients& gradients) {
  charge(10 * pair_channels(input, strip),
         share_of(input, strip) * (bytes_of(input.qkv) + bytes_of(output.out) +
                                   bytes_of(output.log_sum) + bytes_of(gradients.qkv)) +
             bytes_of(output.out_gradient));
}

void SimulatedKernels::fill_rows(std::span<const index_t> rows, float, Matrix to) {
  const auto filled = std::ranges::count_if(rows, [](index_t row) { return row >= 0; });
  charge(0, static_cast<double>(filled) * bytes_of(to.extent(0) > 0 ? to[0] : Vector()));
}

void SimulatedKernels::gather_rows(ConstMatrix, std::span<const index_t>, index_t, Matrix to) {
  charge(0, 2 * bytes_of(to));
}

void SimulatedKernels::scatter_rows(ConstMatrix from, std::span<const index_t>, index_t,
                                    bool accumulate, Matrix) {
  charge(0, (accumulate ? 3 : 2) * bytes_of(from));
}

void SimulatedKernels::fold(ConstMatrix a, ConstMatrix weights, index_t, float, Matrix folded) {
  charge(product_flops(a.extent(0), weights.extent(0), weights.extent(1)),
         bytes_of(a) + bytes_of(weights) + bytes_of(folded));
}

void SimulatedKernels::unfold(ConstMatrix folded, ConstMatrix weights, index_t, float, Matrix out) {
  charge(product_flops(out.extent(0), weights.extent(0), weights.extent(1)),
         bytes_of(folded) + bytes_of(weights) + bytes_of(out));
}

void SimulatedKernels::add_fold_gradient(ConstMatrix a, ConstMatrix folded, index_t, float,
                                         Matrix weights_gradient) {
  charge(product_flops(a.extent(0), weights_gradient.extent(0), weights_gradient.extent(1)),
         bytes_of(a) + bytes_of(folded) + 2 * bytes_of(weights_gradient));
}

void SimulatedKernels::continue_softmax(std::span<const index_t>, index_t, Matrix scores,
                                        Vector maximum, Vector sum, Matrix weighted) {
  charge(0, 2 * (bytes_of(scores) + bytes_of(maximum) + bytes_of(sum) + bytes_of(weighted)));
}

void SimulatedKernels::join_softmax(ConstVector parts, index_t, Vector log_sum, Matrix mean) {
  charge(0, bytes_of(parts) + bytes_of(log_sum) + bytes_of(mean));
}

void SimulatedKernels::softmax_slopes(std::span<const index_t>, index_t, ConstVector log_sum,
                                      ConstVector mean_product, Matrix scores,
                                      Matrix probability_gradients) {
  charge(0, bytes_of(log_sum) + bytes_of(mean_product) +
                2 * (bytes_of(scores) + bytes_of(probability_gradients)));
}

void SimulatedKernels::row_products(ConstMatrix a, ConstMatrix b, Vector out) {
  charge(0, bytes_of(a) + bytes_of(b) + bytes_of(out));
}

void SimulatedKernels::scale_rows(ConstVector factors, Matrix rows) {
  charge(0, bytes_of(factors) + 2 * bytes_of(rows));
}

void SimulatedKernels::gather(std::span<const std::int32_t> tokens, ConstMatrix table,
                              index_t first_row, Matrix) {
  charge(0, bytes_of(tokens) + 3 * held_bytes(tokens, table, first_row, table.dtype()));
}

void SimulatedKernels::scatter_add(std::span<const std::int32_t> tokens, ConstMatrix gradient,
                                   index_t first_row, Matrix table_gradient) {
  charge(0, bytes_of(tokens) + held_bytes(tokens, table_gradient, first_row, gradient.dtype()) +
                2 * held_bytes(tokens, table_gradient, first_row, table_gradient.dtype()));
}

void SimulatedKernels::row_maximum(ConstMatrix logits, Vector maximum) {
  charge(0, bytes_of(logits) + bytes_of(maximum));
}

void SimulatedKernels::softmax_sums(ConstMatrix logits, ConstVector maximum,
                                    std::span<const std::int32_t> targets, index_t,
                                    Vector exponential_sum, Vector target_logit) {
  charge(0, bytes_of(logits) + bytes_of(maximum) + bytes_of(targets) + bytes_of(exponential_sum) +
                bytes_of(target_logit));
}

Loss SimulatedKernels::cross_entropy(std::span<const std::int32_t> targets, ConstVector maximum,
                                     ConstVector exponential_sum, ConstVector target_logit) {
  charge(0, bytes_of(targets) + bytes_of(maximum) + bytes_of(exponential_sum) +
                bytes_of(target_logit));
  return {};
}

void SimulatedKernels::softmax_gradient(Matrix logits, ConstVector maximum,
                                        ConstVector exponential_sum,
                                        std::span<const std::int32_t> targets, index_t, float) {
  charge(0,
         2 * bytes_of(logits) + bytes_of(maximum) + bytes_of(exponential_sum) + bytes_of(targets));
}

void SimulatedKernels::mean_pool(ConstMatrix x, std::span<const index_t> lengths, index_t first,
                                 Matrix out) {
  const index_t tokens = x.extent(0) / std::max<index_t>(out.extent(0), 1);
  index_t rows = 0;
  for (const index_t length : lengths) rows += std::clamp<index_t>(length - first, 0, tokens);
  charge(0, static_cast<double>(rows) * bytes_of(x.extent(0) > 0 ? x[0] : ConstVector()) +
                bytes_of(out));
}

void SimulatedKernels::mean_pool_backward(ConstMatrix out_gradient, std::span<const index_t>,
                                          index_t, Matrix x_gradient) {
  charge(0, bytes_of(out_gradient) + bytes_of(x_gradient));
}

}  // namespace weir::worker
