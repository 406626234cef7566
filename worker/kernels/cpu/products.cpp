#include "worker/kernels/cpu/products.hpp"

#include <algorithm>

#include "common/base/error.hpp"
#include "worker/kernels/cpu/convert.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/kernels/cpu/gemm.hpp"

namespace weir::worker {
namespace {

Vector scratch_of(Memory& memory, index_t elements, Dtype dtype) {
  const index_t bytes = elements * bytes_of(dtype);
  if (memory.bytes() < bytes) memory = Memory(bytes, 1);
  return memory.elements(dtype).first(elements);
}

/// The values in this dtype: themselves, or a copy in f32 in `memory`.
ConstVector in_dtype(const ConstVector& values, Dtype dtype, Memory& memory) {
  if (values.dtype() == dtype) return values;
  WEIR_ASSERT(dtype == Dtype::f32);
  const Vector wide = scratch_of(memory, values.size(), dtype);
  convert(values, wide);
  return wide;
}
ConstMatrix in_dtype(const ConstMatrix& values, Dtype dtype, Memory& memory) {
  return {in_dtype(values.flat(), dtype, memory), values.extent(0), values.extent(1)};
}

/// Calls work(begin, rows) for the strips of a product, and progress() about every millisecond
/// between two of them. strip_of(rows left): how many rows the next one has.
template <class StripOf, class Work>
void each_strip(index_t rows, index_t multiply_adds_a_row, const StripOf& strip_of,
                const std::function<void()>& progress, const Work& work) {
  index_t done = 0;
  for (index_t begin = 0; begin < rows;) {
    if (done * multiply_adds_a_row >= kMultiplyAddsAPanel / 2) {
      progress();
      done = 0;
    }
    const index_t count = strip_of(rows - begin);
    work(begin, count);
    begin += count;
    done += count;
  }
}

auto panels_of(index_t rows) {
  return [rows](index_t left) { return std::min(rows, left); };
}

}  // namespace

void Products::pack(ConstMatrix weights, WeightUses uses) {
  if (uses.multiply) pack(weights, false);
  if (uses.multiply_transposed) pack(weights, true);
}

void Products::pack(ConstMatrix weights, bool is_transposed) {
  if (weights.size() == 0) return;
  const index_t k = weights.extent(is_transposed ? 1 : 0);
  const index_t n = weights.extent(is_transposed ? 0 : 1);
  const Dtype dtype = choice_.is_native(weights.dtype()) ? weights.dtype() : Dtype::f32;
  const bool by_onednn = choice_.library_for(dtype, k, n) == ProductLibrary::onednn;
  if (!by_onednn && weights.dtype() == Dtype::f32) return;  // OpenBLAS reads them where they are
  const auto [at, is_new] = packed_.try_emplace(
      Place{weights.flat().bytes().data(), weights.extent(0), weights.extent(1), is_transposed});
  Factor& factor = at->second;
  if (by_onednn) {
    factor.dtype = dtype;
    if (is_new) factor.onednn = onednn_.add_packed(k, n, dtype);
    onednn_.pack(in_dtype(weights, dtype, b_scratch_), is_transposed, *factor.onednn);
    return;
  }
  const Matrix wide(scratch_of(factor.copy, weights.size(), Dtype::f32), weights.extent(0),
                    weights.extent(1));
  convert(weights.flat(), wide.flat());
  factor.plain = as<float>(wide);
}

index_t Products::packed_bytes(index_t rows, index_t columns, Dtype dtype, WeightUses uses) {
  if (rows * columns == 0) return 0;
  const Dtype computed = choice_.is_native(dtype) ? dtype : Dtype::f32;
  index_t bytes = 0;
  for (const bool is_transposed : {false, true}) {
    if (!(is_transposed ? uses.multiply_transposed : uses.multiply)) continue;
    const index_t k = is_transposed ? columns : rows;
    const index_t n = is_transposed ? rows : columns;
    if (choice_.library_for(computed, k, n) == ProductLibrary::onednn) {
      bytes += onednn_.packed_bytes(k, n, computed);
    } else if (dtype != Dtype::f32) {
      bytes += rows * columns * bytes_of(Dtype::f32);
    }
  }
  return bytes;
}

void Products::multiply(const Product& product, const std::function<void()>& progress) {
  const ConstMatrix& b = product.b;
  WEIR_ASSERT(product.a.extent(0) == product.out.extent(0) &&
              b.extent(product.b_is_transposed ? 1 : 0) == product.k() &&
              b.extent(product.b_is_transposed ? 0 : 1) == product.n());
  WEIR_ASSERT(product.a.dtype() == b.dtype());
  WEIR_ASSERT(product.bias.empty() || product.bias.size() == product.n());
  if (product.n() == 0) return;
  const auto found = packed_.find(
      Place{b.flat().bytes().data(), b.extent(0), b.extent(1), product.b_is_transposed});
  if (found != packed_.end()) return run(product, found->second, progress);
  Factor plain;
  plain.plain = as<float>(in_dtype(b, Dtype::f32, b_scratch_));
  run(product, plain, progress);
}

void Products::run(const Product& product, const Factor& factor,
                   const std::function<void()>& progress) {
  const ConstVector wide_bias = in_dtype(product.bias, Dtype::f32, bias_scratch_);
  const std::span<const float> bias =
      product.bias.empty() ? std::span<const float>() : as<float>(wide_bias);
  const auto strip = [&](index_t begin, index_t rows) {
    const ConstMatrix a = in_dtype(product.a.rows(begin, rows), factor.dtype, a_scratch_);
    const Matrix to = product.out.rows(begin, rows);
    const bool is_direct = to.dtype() == Dtype::f32 || to.dtype() == factor.dtype;
    const Matrix out =
        is_direct ? to
                  : Matrix(scratch_of(out_scratch_, to.size(), Dtype::f32), rows, to.extent(1));
    if (!is_direct && product.accumulate) convert(to.flat(), out.flat());
    if (factor.onednn) {
      onednn_.multiply(a, *factor.onednn, bias, product.accumulate, out);
    } else {
      multiply_by_blas(as<float>(a), factor.plain, product.b_is_transposed, bias,
                       product.accumulate, as<float>(out));
    }
    if (!is_direct) convert(out.flat(), to.flat());
  };
  const index_t rows = product.a.extent(0);
  const index_t multiply_adds = product.n() * product.k();
  if (factor.onednn) {
    each_strip(rows, multiply_adds, OneDnn::strip_of, progress, strip);
  } else {
    // At least 128 rows: OpenBLAS packs the other factor anew in every call.
    each_strip(rows, multiply_adds, panels_of(panel_rows(multiply_adds, 128)), progress, strip);
  }
}

void Products::add_transposed(ConstMatrix a, ConstMatrix b, Matrix out,
                              const std::function<void()>& progress) {
  const index_t m = out.extent(0);
  const index_t n = out.extent(1);
  WEIR_ASSERT(a.extent(1) == m && b.extent(0) == a.extent(0) && b.extent(1) == n);
  WEIR_ASSERT(a.dtype() == b.dtype());
  if (m == 0 || n == 0) return;
  if (out.dtype() != Dtype::f32) {
    const Matrix sum(scratch_of(out_scratch_, out.size(), Dtype::f32), m, n);
    convert(out.flat(), sum.flat());
    add_transposed(a, b, sum, progress);
    return convert(sum.flat(), out.flat());
  }
  // oneDNN and OpenBLAS are equally fast here in f32, and nothing is packed.
  const bool is_native = a.dtype() != Dtype::f32 && choice_.is_native(a.dtype());
  if (is_native) return add_natively(a, b, out, progress);
  // Panels of the tokens, not of out: both factors are then runs of rows, and OpenBLAS itself goes
  // through the shared dimension in steps of some hundreds.
  each_strip(a.extent(0), m * n, panels_of(panel_rows(m * n, 256)), progress,
             [&](index_t begin, index_t rows) {
               add_transposed_by_blas(
                   as<float>(in_dtype(a.rows(begin, rows), Dtype::f32, a_scratch_)),
                   as<float>(in_dtype(b.rows(begin, rows), Dtype::f32, b_scratch_)),
                   as<float>(out));
             });
}

void Products::add_natively(ConstMatrix a, ConstMatrix b, Matrix out,
                            const std::function<void()>& progress) {
  constexpr index_t kStrip = 256;
  constexpr index_t kShortest = 16;
  const auto strip_of = [](index_t left) {
    index_t rows = kStrip;
    while (rows > left && rows > kShortest) rows /= 2;
    return std::min(rows, left);
  };
  // The last tokens are filled up with zeros, which add nothing.
  const auto filled = [](const ConstMatrix& rows, Memory& memory) -> ConstMatrix {
    if (rows.extent(0) >= kShortest) return rows;
    const Vector whole = scratch_of(memory, kShortest * rows.extent(1), rows.dtype());
    const auto rest = std::ranges::copy(rows.flat().bytes(), whole.bytes().begin()).out;
    std::fill(rest, whole.bytes().end(), std::byte());
    return {whole, kShortest, rows.extent(1)};
  };
  each_strip(a.extent(0), out.size(), strip_of, progress, [&](index_t begin, index_t rows) {
    onednn_.add_transposed_product(filled(a.rows(begin, rows), a_scratch_),
                                   filled(b.rows(begin, rows), b_scratch_), out);
  });
}

// --- of CpuKernels

void CpuKernels::pack(ConstMatrix weights, WeightUses uses) { products_->pack(weights, uses); }

index_t CpuKernels::packed_bytes(index_t rows, index_t columns, Dtype dtype,
                                 WeightUses uses) const {
  return products_->packed_bytes(rows, columns, dtype, uses);
}

void CpuKernels::multiply_transposed(ConstMatrix a, ConstMatrix b, ConstVector bias, Matrix out) {
  products_->multiply({.a = a, .b = b, .b_is_transposed = true, .bias = bias, .out = out},
                      [this] { progress(); });
}

void CpuKernels::multiply(ConstMatrix a, ConstMatrix b, bool accumulate, Matrix out) {
  products_->multiply({.a = a, .b = b, .accumulate = accumulate, .out = out},
                      [this] { progress(); });
}

void CpuKernels::add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) {
  products_->add_transposed(a, b, out, [this] { progress(); });
}

CpuKernels::CpuKernels(index_t threads, ProductChoice choice)
    : threads_(threads), products_(std::make_unique<Products>(threads, choice)) {}
CpuKernels::~CpuKernels() = default;
CpuKernels::CpuKernels(CpuKernels&&) noexcept = default;

}  // namespace weir::worker
