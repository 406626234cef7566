#pragma once

#include "common/base/index.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

/// What a device can do in a second, at best.
struct DeviceRates {
  double flops_per_s = 1e11;  ///< a multiply-add is two
  double bytes_per_s = 1e10;  ///< memory, read and written
};

/// What a SimulatedKernels has been charged.
struct Charge {
  double seconds = 0;
  double flops = 0;
  double bytes = 0;
};

/// Kernels that compute nothing and charge time. The costs of a model's units, by which it is cut
/// into stages, come from running the units on them (unit_flops). Outputs keep what they hold, and
/// no element of any operand is read but tokens and lengths.
///
/// A call takes max(flops / flops_per_s, bytes / bytes_per_s). FLOPs: 2 m n k for a product; for
/// attention 4 C a visible pair and head forward and 10 C backward, which makes the scores again;
/// no others. Bytes: each operand once for reading and once more if it is written to; `+=` does
/// both.
class SimulatedKernels final : public Kernels {
 public:
  explicit SimulatedKernels(DeviceRates rates) : rates_(rates) {}

  const Charge& charged() const { return charged_; }

  MemoryKind memory() const override { return MemoryKind::none; }
  index_t attention_strip(index_t heads_width) const override;
  index_t product_strip(index_t rows, index_t columns) const override;

  void pack(ConstMatrix weights, WeightUses uses) override;
  index_t packed_bytes(index_t rows, index_t columns, Dtype dtype, WeightUses uses) const override;
  void multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out) override;
  void multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) override;
  void add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) override;
  void add_column_sums(ConstMatrix a, Vector out) override;
  void add(ConstVector from, Vector to) override;
  void copy(ConstVector from, Vector to) override;
  void fill(Vector to, float value) override;
  void add_bias(ConstVector bias, Matrix to) override;
  void gelu(ConstVector x, Vector out) override;
  void gelu_backward(Vector x, Vector gradient) override;
  void dropout(const DropoutKey& key, Matrix values) override;
  void layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out, Vector mean,
                  Vector inverse_deviation) override;
  void layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                           ConstVector inverse_deviation, ConstMatrix out_gradient,
                           Matrix x_gradient, Vector weight_gradient,
                           Vector bias_gradient) override;
  void rotate(Matrix qkv, index_t heads, index_t first, index_t tokens_a_sample,
              int direction) override;
  void rotate_rows(Matrix qkv, index_t heads, std::span<const index_t> positions,
                   int direction) override;
  void attention(const AttentionInput& input, const AttentionStrip& strip, Matrix out,
                 Vector log_sum, Vector global_part) override;
  void attention_backward(const AttentionInput& input, const AttentionStrip& strip,
                          const AttentionOutput& output,
                          const AttentionGradients& gradients) override;
  void fill_rows(std::span<const index_t> rows, float value, Matrix to) override;
  void gather_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                   Matrix to) override;
  void scatter_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                    bool accumulate, Matrix to) override;
  void fold(ConstMatrix a, ConstMatrix weights, index_t heads, float scale, Matrix folded) override;
  void unfold(ConstMatrix folded, ConstMatrix weights, index_t heads, float scale,
              Matrix out) override;
  void add_fold_gradient(ConstMatrix a, ConstMatrix folded, index_t heads, float scale,
                         Matrix weights_gradient) override;
  void continue_softmax(std::span<const index_t> limits, index_t first, Matrix scores,
                        Vector maximum, Vector sum, Matrix weighted) override;
  void join_softmax(ConstVector parts, index_t count, Vector log_sum, Matrix mean) override;
  void softmax_slopes(std::span<const index_t> limits, index_t first, ConstVector log_sum,
                      ConstVector mean_product, Matrix scores,
                      Matrix probability_gradients) override;
  void row_products(ConstMatrix a, ConstMatrix b, Vector out) override;
  void scale_rows(ConstVector factors, Matrix rows) override;
  void gather(std::span<const std::int32_t> tokens, ConstMatrix table, index_t first_row,
              Matrix out) override;
  void scatter_add(std::span<const std::int32_t> tokens, ConstMatrix gradient, index_t first_row,
                   Matrix table_gradient) override;
  void row_maximum(ConstMatrix logits, Vector maximum) override;
  void softmax_sums(ConstMatrix logits, ConstVector maximum, std::span<const std::int32_t> targets,
                    index_t first_column, Vector exponential_sum, Vector target_logit) override;
  Loss cross_entropy(std::span<const std::int32_t> targets, ConstVector maximum,
                     ConstVector exponential_sum, ConstVector target_logit) override;
  void softmax_gradient(Matrix logits, ConstVector maximum, ConstVector exponential_sum,
                        std::span<const std::int32_t> targets, index_t first_column,
                        float scale) override;
  void mean_pool(ConstMatrix x, std::span<const index_t> lengths, index_t first,
                 Matrix out) override;
  void mean_pool_backward(ConstMatrix out_gradient, std::span<const index_t> lengths, index_t first,
                          Matrix x_gradient) override;

 private:
  void charge(double flops, double bytes);

  DeviceRates rates_;
  Charge charged_;
};

}  // namespace weir::worker
