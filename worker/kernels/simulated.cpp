#include "worker/kernels/simulated.hpp"

#include <algorithm>

namespace weir::worker {
namespace {

// Every element is 4 bytes wide: f32, or a token.
double bytes_of(ConstMatrix matrix) { return 4 * static_cast<double>(matrix.size()); }
double bytes_of(ConstVector vector) { return 4 * static_cast<double>(vector.size()); }
double bytes_of(std::span<const std::int32_t> tokens) {
  return 4 * static_cast<double>(tokens.size());
}

double product_flops(index_t m, index_t n, index_t k) {
  return 2 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// Channels of a head times pairs of a query and a key it sees, over all heads and sequences.
double pair_channels(ConstMatrix qkv, std::span<const index_t> lengths, const Sparsity& sparsity) {
  const index_t queries =
      lengths.empty() ? 0 : qkv.extent(0) / static_cast<index_t>(lengths.size());
  index_t pairs = 0;
  for (const index_t length : lengths) {
    for (index_t query = 0; query < queries; ++query) {
      pairs += visible_count(query, length, sparsity);
    }
  }
  return static_cast<double>(pairs) * static_cast<double>(qkv.extent(1)) / 3;
}

// Of one row for each token whose row of the table this shard holds.
double held_bytes(std::span<const std::int32_t> tokens, ConstMatrix table, index_t first_row) {
  const auto held = std::ranges::count_if(tokens, [&](index_t token) {
    return token >= first_row && token < first_row + table.extent(0);
  });
  return 4 * static_cast<double>(held) * static_cast<double>(table.extent(1));
}

}  // namespace

void SimulatedKernels::charge(double flops, double bytes) {
  charged_.seconds += std::max(flops / rates_.flops_per_s, bytes / rates_.bytes_per_s);
  charged_.flops += flops;
  charged_.bytes += bytes;
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

void SimulatedKernels::gelu_backward(ConstVector x, Vector gradient) {
  charge(0, bytes_of(x) + 2 * bytes_of(gradient));
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

void SimulatedKernels::rotate(Matrix qkv, index_t, index_t, int) {
  charge(0, 2 * bytes_of(qkv) * 2 / 3);  // queries and keys, not values
}

void SimulatedKernels::attention(ConstMatrix qkv, index_t, std::span<const index_t> lengths,
                                 const Sparsity& sparsity, Matrix out, Vector log_sum) {
  charge(4 * pair_channels(qkv, lengths, sparsity),
         bytes_of(qkv) + bytes_of(out) + bytes_of(log_sum));
}

void SimulatedKernels::attention_backward(ConstMatrix qkv, index_t,
                                          std::span<const index_t> lengths,
                                          const Sparsity& sparsity, ConstMatrix out,
                                          ConstVector log_sum, ConstMatrix out_gradient,
                                          Matrix qkv_gradient) {
  charge(10 * pair_channels(qkv, lengths, sparsity),
         bytes_of(qkv) + bytes_of(out) + bytes_of(log_sum) + bytes_of(out_gradient) +
             bytes_of(qkv_gradient));
}

void SimulatedKernels::gather(std::span<const std::int32_t> tokens, ConstMatrix table,
                              index_t first_row, Matrix) {
  charge(0, bytes_of(tokens) + 3 * held_bytes(tokens, table, first_row));
}

void SimulatedKernels::scatter_add(std::span<const std::int32_t> tokens, ConstMatrix,
                                   index_t first_row, Matrix table_gradient) {
  charge(0, bytes_of(tokens) + 3 * held_bytes(tokens, table_gradient, first_row));
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
  charge(0, 4 * static_cast<double>(rows * x.extent(1)) + bytes_of(out));
}

void SimulatedKernels::mean_pool_backward(ConstMatrix out_gradient, std::span<const index_t>,
                                          index_t, Matrix x_gradient) {
  charge(0, bytes_of(out_gradient) + bytes_of(x_gradient));
}

}  // namespace weir::worker
