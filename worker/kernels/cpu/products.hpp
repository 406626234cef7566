#pragma once

#include <functional>
#include <map>
#include <optional>
#include <tuple>

#include "common/number/memory.hpp"
#include "common/number/view.hpp"
#include "worker/kernels/cpu/onednn.hpp"
#include "worker/kernels/cpu/product_choice.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

/// out[m, n] = a[m, k] b[k, n] (+ bias[n] if not empty), or out += with accumulate.
struct Product {
  ConstMatrix a;
  ConstMatrix b;  ///< [k, n], or [n, k] if it is transposed
  bool b_is_transposed = false;
  ConstVector bias = {};
  bool accumulate = false;
  Matrix out = {};

  index_t k() const { return a.extent(1); }
  index_t n() const { return out.extent(1); }
};

/// The products of one CpuKernels, and the weights that it has packed.
///
/// a and b have one dtype, f32, bf16 or fp16; out has it too, or is f32; the bias has either. A
/// product accumulates in f32. What the choice does not compute natively is converted to f32, the
/// weights once when they are packed, the rest strip by strip, and the result is rounded to
/// nearest, ties to even.
///
/// Products with packed weights are made by the library that the choice names. All others are made
/// by OpenBLAS: their `b` is activations, of another shape in every micro-batch.
class Products {
 public:
  Products(index_t threads, ProductChoice choice) : choice_(choice), onednn_(threads) {}

  const ProductChoice& choice() const { return choice_; }

  void pack(ConstMatrix weights, WeightUses uses);
  index_t packed_bytes(index_t rows, index_t columns, Dtype dtype, WeightUses uses);

  /// `progress` is called between strips, about every millisecond.
  void multiply(const Product& product, const std::function<void()>& progress);
  /// out[m, n] += a[t, m]^T b[t, n], rounded once if out is not f32.
  void add_transposed(ConstMatrix a, ConstMatrix b, Matrix out,
                      const std::function<void()>& progress);

 private:
  /// Where weights lie, and how products read them.
  using Place = std::tuple<const std::byte*, index_t, index_t, bool>;
  /// A second factor that is ready: with oneDNN, or in f32 for OpenBLAS.
  struct Factor {
    Dtype dtype = Dtype::f32;
    std::optional<index_t> onednn;
    View<const float, 2> plain = {};
    Memory copy = {};  ///< weights that OpenBLAS cannot read
  };
  void pack(ConstMatrix weights, bool is_transposed);
  index_t packed_bytes(ConstMatrix weights, bool is_transposed);
  void run(const Product& product, const Factor& factor, const std::function<void()>& progress);
  void add_natively(ConstMatrix a, ConstMatrix b, Matrix out,
                    const std::function<void()>& progress);

  ProductChoice choice_;
  OneDnn onednn_;
  std::map<Place, Factor> packed_;
  Memory a_scratch_, b_scratch_, out_scratch_, bias_scratch_;
};

}  // namespace weir::worker
