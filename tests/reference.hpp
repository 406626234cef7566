#pragma once

#include <cstdint>
#include <span>

#include "common/number/view.hpp"
#include "worker/kernels/kernels.hpp"

/// The naive f64 twin of every kernel, written from the formula: the truth that kernels are held
/// against, and the place to read what they do. Same names, arguments and meaning as
/// worker::Kernels (shapes there). Gradients are checked by central differences in
/// tests/worker/kernels/reference_test.cpp.
namespace weir::reference {

using Matrix = View<double, 2>;
using ConstMatrix = View<const double, 2>;
using Vector = std::span<double>;
using ConstVector = std::span<const double>;
using Tokens = std::span<const std::int32_t>;
using Lengths = std::span<const index_t>;

void multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out);
void multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out);
void add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out);
void add_column_sums(ConstMatrix a, Vector out);

void add(ConstVector from, Vector to);
void add_bias(ConstVector bias, Matrix to);
void gelu(ConstVector x, Vector out);
void gelu_backward(ConstVector x, Vector gradient);
void dropout(const worker::DropoutKey& key, Matrix values);

void layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out, Vector mean,
                Vector inverse_deviation);
void layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                         ConstVector inverse_deviation, ConstMatrix out_gradient, Matrix x_gradient,
                         Vector weight_gradient, Vector bias_gradient);

void rotate(Matrix qkv, index_t heads, index_t tokens_a_sample, int direction);
void attention(ConstMatrix qkv, index_t heads, Lengths lengths, const worker::Sparsity& sparsity,
               Matrix out, Vector log_sum);
/// Through the matrix of weights, not through log_sum: softmax's own derivative.
void attention_backward(ConstMatrix qkv, index_t heads, Lengths lengths,
                        const worker::Sparsity& sparsity, ConstMatrix out_gradient,
                        Matrix qkv_gradient);

void fold(ConstMatrix a, ConstMatrix weights, index_t heads, double scale, Matrix folded);
void unfold(ConstMatrix folded, ConstMatrix weights, index_t heads, double scale, Matrix out);
void add_fold_gradient(ConstMatrix a, ConstMatrix folded, index_t heads, double scale,
                       Matrix weights_gradient);
void continue_softmax(Lengths limits, index_t first, Matrix scores, Vector maximum, Vector sum,
                      Matrix weighted);
void join_softmax(ConstVector parts, index_t count, Vector log_sum, Matrix mean);
void softmax_slopes(Lengths limits, index_t first, ConstVector log_sum, ConstVector mean_product,
                    Matrix scores, Matrix probability_gradients);
void row_products(ConstMatrix a, ConstMatrix b, Vector out);
void scale_rows(ConstVector factors, Matrix rows);

void gather(Tokens tokens, ConstMatrix table, index_t first_row, Matrix out);
void scatter_add(Tokens tokens, ConstMatrix gradient, index_t first_row, Matrix table_gradient);

void row_maximum(ConstMatrix logits, Vector maximum);
void softmax_sums(ConstMatrix logits, ConstVector maximum, Tokens targets, index_t first_column,
                  Vector exponential_sum, Vector target_logit);
void softmax_gradient(Matrix logits, ConstVector maximum, ConstVector exponential_sum,
                      Tokens targets, index_t first_column, double scale);

void mean_pool(ConstMatrix x, Lengths lengths, index_t first, Matrix out);
void mean_pool_backward(ConstMatrix out_gradient, Lengths lengths, index_t first,
                        Matrix x_gradient);

}  // namespace weir::reference
