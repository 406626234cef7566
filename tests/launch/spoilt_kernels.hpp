#pragma once

#include <functional>

#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::test {

/// CpuKernels whose calls hand what they have written to `after`: kernels whose units fail.
class SpoiltKernels final : public worker::CpuKernels {
 public:
  using Base = worker::CpuKernels;
  std::function<void(Vector written)> after;

  void multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out) override {
    Base::multiply_transposed(a, b, bias, out);
    after(out.flat());
  }
  void multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) override {
    Base::multiply(a, b, accumulate, out);
    after(out.flat());
  }
  void add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) override {
    Base::add_transposed_product(a, b, out);
    after(out.flat());
  }
  void add_column_sums(ConstMatrix a, Vector out) override {
    Base::add_column_sums(a, out);
    after(out);
  }
  void add(ConstVector from, Vector to) override {
    Base::add(from, to);
    after(to);
  }
  void copy(ConstVector from, Vector to) override {
    Base::copy(from, to);
    after(to);
  }
  void fill(Vector to, float value) override {
    Base::fill(to, value);
    after(to);
  }
  void add_bias(ConstVector bias, Matrix to) override {
    Base::add_bias(bias, to);
    after(to.flat());
  }
  void gelu(ConstVector x, Vector out) override {
    Base::gelu(x, out);
    after(out);
  }
  void gelu_backward(Vector x, Vector gradient) override {
    Base::gelu_backward(x, gradient);
    after(x);
    after(gradient);
  }
  void dropout(const worker::DropoutKey& key, Matrix values) override {
    Base::dropout(key, values);
    after(values.flat());
  }
  void layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out, Vector mean,
                  Vector inverse_deviation) override {
    Base::layer_norm(x, weight, bias, out, mean, inverse_deviation);
    after(out.flat());
    after(mean);
    after(inverse_deviation);
  }
  void layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                           ConstVector inverse_deviation, ConstMatrix out_gradient,
                           Matrix x_gradient, Vector weight_gradient,
                           Vector bias_gradient) override {
    Base::layer_norm_backward(x, weight, mean, inverse_deviation, out_gradient, x_gradient,
                              weight_gradient, bias_gradient);
    after(x_gradient.flat());
    after(weight_gradient);
    after(bias_gradient);
  }
  void rotate(Matrix qkv, index_t heads, index_t first, index_t tokens_a_sample,
              int direction) override {
    Base::rotate(qkv, heads, first, tokens_a_sample, direction);
    after(qkv.flat());
  }
  void rotate_rows(Matrix qkv, index_t heads, std::span<const index_t> positions,
                   int direction) override {
    Base::rotate_rows(qkv, heads, positions, direction);
    after(qkv.flat());
  }
  void attention(const worker::AttentionInput& input, const worker::AttentionStrip& strip,
                 Matrix out, Vector log_sum, Vector global_part) override {
    Base::attention(input, strip, out, log_sum, global_part);
    after(out.flat());
    after(log_sum);
    after(global_part);
  }
  void attention_backward(const worker::AttentionInput& input, const worker::AttentionStrip& strip,
                          const worker::AttentionOutput& output,
                          const worker::AttentionGradients& gradients) override {
    Base::attention_backward(input, strip, output, gradients);
    after(gradients.qkv.flat());
    after(gradients.globals.flat());
  }
  void gather_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                   Matrix to) override {
    Base::gather_rows(from, rows, column, to);
    after(to.flat());
  }
  void scatter_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                    bool accumulate, Matrix to) override {
    Base::scatter_rows(from, rows, column, accumulate, to);
    after(to.flat());
  }
  void fold(ConstMatrix a, ConstMatrix weights, index_t heads, float scale,
            Matrix folded) override {
    Base::fold(a, weights, heads, scale, folded);
    after(folded.flat());
  }
  void unfold(ConstMatrix folded, ConstMatrix weights, index_t heads, float scale,
              Matrix out) override {
    Base::unfold(folded, weights, heads, scale, out);
    after(out.flat());
  }
  void add_fold_gradient(ConstMatrix a, ConstMatrix folded, index_t heads, float scale,
                         Matrix weights_gradient) override {
    Base::add_fold_gradient(a, folded, heads, scale, weights_gradient);
    after(weights_gradient.flat());
  }
  void continue_softmax(std::span<const index_t> limits, index_t first, Matrix scores,
                        Vector maximum, Vector sum, Matrix weighted) override {
    Base::continue_softmax(limits, first, scores, maximum, sum, weighted);
    after(scores.flat());
    after(maximum);
    after(sum);
    after(weighted.flat());
  }
  void join_softmax(ConstVector parts, index_t count, Vector log_sum, Matrix mean) override {
    Base::join_softmax(parts, count, log_sum, mean);
    after(log_sum);
    after(mean.flat());
  }
  void softmax_slopes(std::span<const index_t> limits, index_t first, ConstVector log_sum,
                      ConstVector mean_product, Matrix scores,
                      Matrix probability_gradients) override {
    Base::softmax_slopes(limits, first, log_sum, mean_product, scores, probability_gradients);
    after(scores.flat());
    after(probability_gradients.flat());
  }
  void row_products(ConstMatrix a, ConstMatrix b, Vector out) override {
    Base::row_products(a, b, out);
    after(out);
  }
  void scale_rows(ConstVector factors, Matrix rows) override {
    Base::scale_rows(factors, rows);
    after(rows.flat());
  }
  void gather(std::span<const std::int32_t> tokens, ConstMatrix table, index_t first_row,
              Matrix out) override {
    Base::gather(tokens, table, first_row, out);
    after(out.flat());
  }
  void scatter_add(std::span<const std::int32_t> tokens, ConstMatrix gradient, index_t first_row,
                   Matrix table_gradient) override {
    Base::scatter_add(tokens, gradient, first_row, table_gradient);
    after(table_gradient.flat());
  }
  void row_maximum(ConstMatrix logits, Vector maximum) override {
    Base::row_maximum(logits, maximum);
    after(maximum);
  }
  void softmax_sums(ConstMatrix logits, ConstVector maximum, std::span<const std::int32_t> targets,
                    index_t first_column, Vector exponential_sum, Vector target_logit) override {
    Base::softmax_sums(logits, maximum, targets, first_column, exponential_sum, target_logit);
    after(exponential_sum);
    after(target_logit);
  }
  void softmax_gradient(Matrix logits, ConstVector maximum, ConstVector exponential_sum,
                        std::span<const std::int32_t> targets, index_t first_column,
                        float scale) override {
    Base::softmax_gradient(logits, maximum, exponential_sum, targets, first_column, scale);
    after(logits.flat());
  }
  void mean_pool(ConstMatrix x, std::span<const index_t> lengths, index_t first,
                 Matrix out) override {
    Base::mean_pool(x, lengths, first, out);
    after(out.flat());
  }
  void mean_pool_backward(ConstMatrix out_gradient, std::span<const index_t> lengths, index_t first,
                          Matrix x_gradient) override {
    Base::mean_pool_backward(out_gradient, lengths, first, x_gradient);
    after(x_gradient.flat());
  }
};

}  // namespace weir::test
