#pragma once

#include <memory>
#include <span>

#include "common/number/tensor.hpp"
#include "worker/kernels/cpu/product_choice.hpp"

namespace weir::worker {

/// Matrix products by oneDNN, and the only code that knows oneDNN. Products are in f32 or bf16;
/// they accumulate in f32. Not safe to share between threads.
class OneDnn {
 public:
  /// Products compute with so many threads.
  explicit OneDnn(index_t threads);
  ~OneDnn();
  OneDnn(const OneDnn&) = delete;
  OneDnn& operator=(const OneDnn&) = delete;

  /// What oneDNN uses of this processor.
  static Instructions instructions();

  /// Rows of a strip. A product is made of whole strips, and its last rows of halves of strips: so
  /// there are eight primitives for all numbers of rows, and a row has the same bits in each.
  static constexpr index_t kStripRows = 128;
  /// Rows of the next strip if `left` are left.
  static index_t strip_of(index_t left);

  /// Second factors b [k, n] in oneDNN's own format are kept here, and named by number.
  index_t packed_bytes(index_t k, index_t n, Dtype dtype);
  index_t add_packed(index_t k, index_t n, Dtype dtype);
  /// b: [k, n], or [n, k] if it is transposed.
  void pack(ConstMatrix b, bool is_transposed, index_t packed);

  /// out[m, n] = a[m, k] b (+ bias[n] if not empty), or out += with accumulate; m is one that
  /// strip_of gives. out is of a's dtype, or f32.
  void multiply(ConstMatrix a, index_t packed, std::span<const float> bias, bool accumulate,
                Matrix out);
  /// out[m, n] += a[t, m]^T b[t, n], out f32.
  void add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out);

 private:
  struct State;
  State& state();

  index_t threads_;
  std::unique_ptr<State> state_;  ///< made when it is first needed
};

}  // namespace weir::worker
