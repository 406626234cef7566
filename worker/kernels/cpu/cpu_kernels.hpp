#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/number/memory.hpp"
#include "worker/kernels/cpu/product_choice.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

struct Block;
class Products;

/// Kernels on the cores of this host: products by oneDNN or OpenBLAS, the rest vectorised for the
/// best instructions that the processor has (Highway). The same bits every run on the same kind of
/// processor: no atomics, sums in an order that the shapes alone decide; attention has them for any
/// number of threads, too. A NaN in gives a NaN out. Not safe to share between threads: it keeps
/// scratch memory.
class CpuKernels : public Kernels {
 public:
  /// Attention and products by oneDNN compute with this many threads; products by OpenBLAS take the
  /// number that it was told.
  explicit CpuKernels(index_t threads = 1, ProductChoice choice = {});
  ~CpuKernels() override;
  CpuKernels(CpuKernels&&) noexcept;

  /// What `rotate` keeps for this number of successive positions and C channels a head, for plans.
  static index_t rotary_bytes(index_t positions, index_t channels);

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
  /// cos and sin of position * frequency, [positions, C / 2] each; made when first asked for. If a
  /// sequence is cut over contexts, it has only the positions here.
  struct RotaryTable {
    Interval positions;
    index_t half_channels = 0;
    std::vector<float> cosine;
    std::vector<float> sine;
  };
  const RotaryTable& rotary_table(Interval positions, index_t half_channels);

  /// One head of one block, with scratch memory of its own.
  using HeadTask = std::function<void(const Block&, index_t head, std::span<float> scratch)>;
  /// Runs the task for each head of each block of a strip, over the threads.
  void each_head(const AttentionInput& input, const AttentionStrip& strip, const HeadTask& task);

  /// Scratch memory of at least `floats` floats for one call.
  std::span<float> scratch_of(index_t floats);

  index_t threads_;
  std::unique_ptr<Products> products_;
  RotaryTable rotary_;
  Buffer scratch_;
};

}  // namespace weir::worker
