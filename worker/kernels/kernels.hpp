#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "common/number/random.hpp"
#include "common/number/tensor.hpp"
#include "worker/kernels/attention.hpp"

namespace weir::worker {

/// Where the draws of one dropout come from, so that no layout changes them: element (token,
/// feature) of a sample is kept iff uniform_float(seed, dropout_stream(key, sample), token * width
/// + feature) >= rate, `token` being its position in the sequence. `first_token`: the position of
/// the first token this context holds. `first_feature`, `width`: the columns this shard holds of
/// the unsharded width.
struct DropoutKey {
  float rate = 0;  ///< 0: nothing is dropped
  std::uint64_t seed = 0;
  std::uint64_t layer = 0;           ///< stream of the layer's name
  std::span<const index_t> samples;  ///< global sample index of each sequence of the micro-batch
  index_t tokens_a_sample = 0;
  index_t first_token = 0;
  index_t first_feature = 0;
  index_t width = 0;
};

/// A stream of its own for each layer and sample: a draw out of the layer's stream.
inline std::uint64_t dropout_stream(const DropoutKey& key, index_t sample) {
  return random_word(key.seed, key.layer, static_cast<std::uint64_t>(sample));
}

/// Added to the variance by every norm.
inline constexpr double kNormEpsilon = 1e-5;
/// The base of the angles of rotary positions.
inline constexpr double kRotaryBase = 10000;

/// The products that read a matrix of weights as their second factor.
struct WeightUses {
  bool multiply = false;
  bool multiply_transposed = false;
};

/// Loss of one micro-batch or a part of it, natural logarithm, summed over its loss terms.
struct Loss {
  double sum = 0;
  index_t count = 0;
  index_t correct = 0;  ///< loss terms whose target has the greatest logit

  Loss& operator+=(const Loss& other) {
    sum += other.sum;
    count += other.count;
    correct += other.correct;
    return *this;
  }
};

/// Everything that layers may do to elements. Row-major; no output overlaps an input unless a line
/// says so; sums in f32 unless a line says more. Each call looks at the dtype of its operands once
/// and asserts that it knows them, that shapes agree, and that the memory is of its kind.
/// Implementations: CpuKernels computes; SimulatedKernels computes nothing and charges time.
///
/// Dtypes: activations, their gradients and the weights that are read have one dtype T in a call:
/// f32, or a low type (bf16, fp16). A kernel computes in f32 and rounds once, to nearest, when it
/// writes T. Always f32, whatever T is: gradients of weights, biases and tables, which are added
/// to; means, deviations, maxima, sums and logarithms of them. A function's comment names the
/// operands that are f32 or may be either.
class Kernels {
 public:
  virtual ~Kernels() = default;

  /// The kind of memory that operands must be in.
  virtual MemoryKind memory() const { return MemoryKind::host; }

  // --- how long operands are best cut
  /// The number of tokens of a strip of attention, if its heads together have `width` features: its
  /// queries, keys and values should still be in the cache when they are used again.
  virtual index_t attention_strip(index_t heads_width) const = 0;
  /// The number of rows of a strip of a product that has `rows` rows in all and whose result,
  /// `columns` wide, is used up strip by strip.
  virtual index_t product_strip(index_t rows, index_t columns) const = 0;

  // --- matrix products
  // out and bias are T or f32. A product accumulates in f32.
  /// Keeps weights in the form that these products are fastest with. From now on products whose `b`
  /// is exactly this matrix read that form and not `weights`: pack again after every change of the
  /// weights, before the next product, and pack what is packed as long as this table is used.
  virtual void pack(ConstMatrix weights, WeightUses uses) = 0;
  /// Memory that `pack` takes for weights [rows, columns].
  virtual index_t packed_bytes(index_t rows, index_t columns, Dtype dtype,
                               WeightUses uses) const = 0;
  /// out[m, n] = a[m, k] b[n, k]^T (+ bias[n] if not empty). Linear layer: weights are [out, in].
  virtual void multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out) = 0;
  /// out[m, n] = a[m, k] b[k, n], or out += with accumulate. Gradient to the input of a linear
  /// layer.
  virtual void multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) = 0;
  /// out[m, n] += a[k, m]^T b[k, n]. Gradient of a linear layer's weights: a is the output's
  /// gradient, b the input.
  virtual void add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) = 0;
  /// out[n] += sum over rows of a[m, n]. Gradient of a bias. out: f32.
  virtual void add_column_sums(ConstMatrix a, Vector out) = 0;

  // --- element-wise
  /// to += from. `to` may be f32 whatever `from` is: the gradient of a weight.
  virtual void add(ConstVector from, Vector to) = 0;
  /// to = from; converts if their dtypes differ.
  virtual void copy(ConstVector from, Vector to) = 0;
  virtual void fill(Vector to, float value) = 0;
  /// Each row of `to` += bias.
  virtual void add_bias(ConstVector bias, Matrix to) = 0;
  /// out = x Phi(x), the tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
  /// Source: Hendrycks and Gimpel, arXiv 1606.08415, section 2. out may be x.
  virtual void gelu(ConstVector x, Vector out) = 0;
  /// gradient *= derivative of gelu at x, and x becomes gelu(x): the exponential, which takes most
  /// of the time, is the same, and the gradient of the weights that come next needs it.
  virtual void gelu_backward(Vector x, Vector gradient) = 0;
  /// values[i] = kept ? values[i] / (1 - rate) : 0, in place; forward and backward are the same
  /// call. values: [tokens, columns of this shard]. Does nothing at rate 0.
  virtual void dropout(const DropoutKey& key, Matrix values) = 0;

  // --- normalisation
  /// out[r, c] = (x[r, c] - mean[r]) * inverse_deviation[r] * weight[c] + bias[c], with the row's
  /// mean and 1 / sqrt(variance + kNormEpsilon), both kept for backward.
  /// Source: Ba et al., arXiv 1607.06450.
  virtual void layer_norm(ConstMatrix x, ConstVector weight, ConstVector bias, Matrix out,
                          Vector mean, Vector inverse_deviation) = 0;
  /// x_gradient += gradient through the norm; weight_gradient and bias_gradient are added to.
  virtual void layer_norm_backward(ConstMatrix x, ConstVector weight, ConstVector mean,
                                   ConstVector inverse_deviation, ConstMatrix out_gradient,
                                   Matrix x_gradient, Vector weight_gradient,
                                   Vector bias_gradient) = 0;

  // --- attention
  /// Rotates pairs (c, c + C/2) of each head of the queries and keys in qkv (a row holds the
  /// queries of all heads, then keys, then values) by position * kRotaryBase^(-2c/C), in place;
  /// direction -1 rotates back (backward). Position: first + row mod tokens_a_sample. Source: Su et
  /// al., arXiv 2104.09864, section 3.4.2.
  virtual void rotate(Matrix qkv, index_t heads, index_t first, index_t tokens_a_sample,
                      int direction) = 0;
  /// The same if row r is at positions[r]; a row whose position is negative stays as it is.
  virtual void rotate_rows(Matrix qkv, index_t heads, std::span<const index_t> positions,
                           int direction) = 0;
  /// out[b, i, h] = sum over visible j of softmax_j(q[b, i, h] . k[b, j, h] / sqrt(C)) v[b, j, h]
  /// for the local queries i of the strip; 0 for the global ones among them.
  ///
  /// out: [B * N, H C]. log_sum: [B * H * N], kept for backward. Which j are visible: visible.hpp.
  /// A query that sees nothing gives 0. Time and memory linear in N for a fixed window. Any N >= 1.
  /// global_part holds the softmax of global queries over the keys seen so far, row (b * G + g) * H
  /// + h each: maximum [B G H], sum [B G H] and weighted values [B G H, C], one after the other, as
  /// join_softmax takes it. The call that has token 0 begins it, and the caller carries it to the
  /// next. It is empty unless the form is `shared`. log_sum and global_part are f32; so are scores,
  /// softmax and sums inside the kernel.
  /// Source: Beltagy et al., arXiv 2004.05150; log_sum: Dao et al., arXiv 2205.14135.
  virtual void attention(const AttentionInput& input, const AttentionStrip& strip, Matrix out,
                         Vector log_sum, Vector global_part) = 0;
  /// Gradients to queries, keys and values. The probabilities are made again from log_sum, never
  /// stored. For a query i with output O_i and its gradient dO_i, and each key j that it sees:
  ///
  ///   p_ij = exp(q_i . k_j / sqrt(C) - log_sum_i)      D_i = dO_i . O_i  (rowsum(dO * O))
  ///   dS_ij = p_ij (dO_i . v_j - D_i)
  ///   dV_j += p_ij dO_i    dQ_i += dS_ij k_j / sqrt(C)    dK_j += dS_ij q_i / sqrt(C)
  ///
  /// Shapes stand at AttentionOutput and AttentionGradients. Strips come in the order of forward,
  /// each with its rows of the output's gradient. Cost: five products of C multiply-adds a visible
  /// pair and head, where forward has two. Source: Dao et al., arXiv 2205.14135, appendix B.
  virtual void attention_backward(const AttentionInput& input, const AttentionStrip& strip,
                                  const AttentionOutput& output,
                                  const AttentionGradients& gradients) = 0;

  // --- some rows of a matrix: global tokens, borders between contexts
  /// to[rows[i]] = value, all columns; negative rows are left out.
  virtual void fill_rows(std::span<const index_t> rows, float value, Matrix to) = 0;
  /// to[i] = columns [column, column + width of to) of from[rows[i]]; zeros where rows[i] < 0.
  virtual void gather_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                           Matrix to) = 0;
  /// Columns [column, column + width of from) of to[rows[i]] = from[i], or += with accumulate; what
  /// has rows[i] < 0 is left out. Dtypes as in copy and add.
  virtual void scatter_rows(ConstMatrix from, std::span<const index_t> rows, index_t column,
                            bool accumulate, Matrix to) = 0;

  // --- global rows, folded
  // What they make together is said in layers/global_branch.hpp. R global rows have `heads` heads
  // of C channels; weights [heads * C, E]; folded [R * heads, E], row r * heads + h is head h of
  // row r. a, weights, scores and their gradients, factors and mean are T. What is summed over
  // runs of tokens or over contexts is f32: maximum, sum and weighted, parts and log_sum, and
  // `folded` where it is the sum of a gradient.
  /// folded[r * heads + h, e] = scale * sum_c a[r, h * C + c] weights[h * C + c, e].
  virtual void fold(ConstMatrix a, ConstMatrix weights, index_t heads, float scale,
                    Matrix folded) = 0;
  /// out[r, h * C + c] = scale * sum_e weights[h * C + c, e] folded[r * heads + h, e]. It turns a
  /// gradient to `folded` into the gradient to fold's `a`. folded: T or f32.
  virtual void unfold(ConstMatrix folded, ConstMatrix weights, index_t heads, float scale,
                      Matrix out) = 0;
  /// weights_gradient[h * C + c, e] += scale * sum_r a[r, h * C + c] folded[r * heads + h, e]: the
  /// gradient to the weights of both, of which one factor is a gradient. folded: T or f32;
  /// weights_gradient: f32.
  virtual void add_fold_gradient(ConstMatrix a, ConstMatrix folded, index_t heads, float scale,
                                 Matrix weights_gradient) = 0;
  /// Continues softmaxes whose columns come run by run. Column c is token first + c; rows form
  /// limits.size() groups of equal size, and group g sees the tokens before limits[g]. maximum and
  /// sum [rows] are those of the tokens seen so far, -inf and 0 at first, and are updated.
  /// scores[r, c] becomes exp(scores[r, c] - maximum[r]), or 0 where r does not see; weighted
  /// [rows, E], sums over the runs before, is scaled to the new maximum. Added to `sum` is what
  /// stands in `scores` afterwards, so that the weights of a mean have the sum 1 in a low type,
  /// too.
  virtual void continue_softmax(std::span<const index_t> limits, index_t first, Matrix scores,
                                Vector maximum, Vector sum, Matrix weighted) = 0;
  /// Joins softmaxes over parts of the tokens, in order. parts: `count` times maximum [rows], sum
  /// [rows] and weighted [rows, E]. log_sum[r] = log of the sum of all exponentials; mean[r] = sum
  /// of weighted over sum of sums; -inf and 0 where nothing is seen. parts and log_sum: f32.
  virtual void join_softmax(ConstVector parts, index_t count, Vector log_sum, Matrix mean) = 0;
  /// Backward of a run of columns, in place, limits and first as above. With p = exp(scores -
  /// log_sum) where r sees, else 0: scores[r, c] becomes the score's own gradient, p *
  /// (probability_gradients[r, c] - mean_product[r]), and probability_gradients[r, c] becomes p.
  /// log_sum and mean_product: f32.
  virtual void softmax_slopes(std::span<const index_t> limits, index_t first, ConstVector log_sum,
                              ConstVector mean_product, Matrix scores,
                              Matrix probability_gradients) = 0;
  /// out[r] = sum_e a[r, e] b[r, e]. out: f32.
  virtual void row_products(ConstMatrix a, ConstMatrix b, Vector out) = 0;
  /// rows[r, c] *= factors[r].
  virtual void scale_rows(ConstVector factors, Matrix rows) = 0;

  // --- embedding
  /// out[r] += table[tokens[r] - first_row] where this shard holds the row; other rows stay.
  virtual void gather(std::span<const std::int32_t> tokens, ConstMatrix table, index_t first_row,
                      Matrix out) = 0;
  /// table_gradient[tokens[r] - first_row] += gradient[r], rows in ascending order of r.
  /// table_gradient: f32.
  virtual void scatter_add(std::span<const std::int32_t> tokens, ConstMatrix gradient,
                           index_t first_row, Matrix table_gradient) = 0;

  // --- cross-entropy over a vocabulary that shards cut
  // Logits are T; maximum, exponential_sum and target_logit are f32.
  /// maximum[r] = max over columns of logits (-inf if there are no columns).
  virtual void row_maximum(ConstMatrix logits, Vector maximum) = 0;
  /// Given the row's maximum over all shards: exponential_sum[r] = sum_c exp(logits[r, c] -
  /// maximum[r]); target_logit[r] = logits[r, target[r] - first_column] where this shard holds the
  /// target, else 0.
  virtual void softmax_sums(ConstMatrix logits, ConstVector maximum,
                            std::span<const std::int32_t> targets, index_t first_column,
                            Vector exponential_sum, Vector target_logit) = 0;
  /// The sum over rows with a target (>= 0) of log(exponential_sum) + maximum - target_logit, in
  /// double, how many there are, and how often the target's logit is the maximum.
  virtual Loss cross_entropy(std::span<const std::int32_t> targets, ConstVector maximum,
                             ConstVector exponential_sum, ConstVector target_logit) = 0;
  /// Given the sums over all shards, in place: logits[r, c] = (softmax - [c is the target]) *
  /// scale, or 0 for rows whose target is negative (no loss term).
  virtual void softmax_gradient(Matrix logits, ConstVector maximum, ConstVector exponential_sum,
                                std::span<const std::int32_t> targets, index_t first_column,
                                float scale) = 0;

  // --- pooling
  /// out[b] = sum over the tokens before padding of x [B, N, E] / lengths[b]. x holds the positions
  /// first, first + 1, … of sequences of lengths[b] tokens: of whole ones this is the mean, of a
  /// part what it adds to the mean, perhaps nothing.
  virtual void mean_pool(ConstMatrix x, std::span<const index_t> lengths, index_t first,
                         Matrix out) = 0;
  /// x_gradient [B * N, E] is overwritten: out_gradient[b] / lengths[b] for tokens before padding,
  /// 0 after.
  virtual void mean_pool_backward(ConstMatrix out_gradient, std::span<const index_t> lengths,
                                  index_t first, Matrix x_gradient) = 0;

  /// `progress` is called between panels of long products, so that messages move while this rank
  /// computes. The code that drives the units sets it once.
  void set_progress(std::function<void()> progress) { progress_ = std::move(progress); }

 protected:
  void progress() const {
    if (progress_) progress_();
  }

 private:
  std::function<void()> progress_;
};

}  // namespace weir::worker
