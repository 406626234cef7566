#pragma once

#include <vector>

#include "common/number/buffer.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

/// Kernels on the cores of this host: products by OpenBLAS, the rest vectorised for the best
/// instructions that the processor has (Highway). The same bits every run on the same kind of
/// processor: no atomics, no threads of its own, sums in an order that the shapes alone decide.
/// A NaN in gives a NaN out. Not safe to share between threads: it keeps scratch memory.
class CpuKernels : public Kernels {
 public:
  void multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out) override;
  void multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) override;
  void add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) override;
  void add_column_sums(ConstMatrix a, Vector out) override;

  void add(ConstVector from, Vector to) override;
  void copy(ConstVector from, Vector to) override;
  void fill(Vector to, float value) override;
  void add_bias(ConstVector bias, Matrix to) override;
  void gelu(ConstVector x, Vector out) override;
  void gelu_backward(ConstVector x, Vector gradient) override;
  void dropout(const DropoutKey& key, Matrix values) override;

  void layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out, Vector mean,
                  Vector inverse_deviation) override;
  void layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                           ConstVector inverse_deviation, ConstMatrix out_gradient,
                           Matrix x_gradient, Vector weight_gradient,
                           Vector bias_gradient) override;

  void rotate(Matrix qkv, index_t heads, index_t tokens_a_sample, int direction) override;
  void attention(ConstMatrix qkv, index_t heads, std::span<const index_t> lengths,
                 const Sparsity& sparsity, Matrix out, Vector log_sum) override;
  void attention_backward(ConstMatrix qkv, index_t heads, std::span<const index_t> lengths,
                          const Sparsity& sparsity, ConstMatrix out, ConstVector log_sum,
                          ConstMatrix out_gradient, Matrix qkv_gradient) override;

  void gather(std::span<const std::int32_t> tokens, ConstMatrix table, index_t first_row,
              Matrix out) override;
  void scatter_add(std::span<const std::int32_t> tokens, ConstMatrix gradient, index_t first_row,
                   Matrix table_gradient) override;

  void row_maximum(ConstMatrix logits, Vector maximum) override;
  void softmax_sums(ConstMatrix logits, ConstVector maximum, std::span<const std::int32_t> targets,
                    index_t first_column, Vector exponential_sum, Vector target_logit) override;
  void softmax_gradient(Matrix logits, ConstVector maximum, ConstVector exponential_sum,
                        std::span<const std::int32_t> targets, index_t first_column,
                        float scale) override;

  void mean_pool(ConstMatrix x, std::span<const index_t> lengths, index_t first,
                 Matrix out) override;
  void mean_pool_backward(ConstMatrix out_gradient, std::span<const index_t> lengths, index_t first,
                          Matrix x_gradient) override;

 private:
  /// cos and sin of position * frequency, [positions, C / 2] each; made when first asked for.
  struct RotaryTable {
    index_t half_channels = 0;
    std::vector<float> cosine;
    std::vector<float> sine;
  };
  const RotaryTable& rotary_table(index_t positions, index_t half_channels);

  /// At least `floats` floats for the time of one call.
  std::span<float> scratch_of(index_t floats);

  RotaryTable rotary_;
  Buffer scratch_;
};

}  // namespace weir::worker
