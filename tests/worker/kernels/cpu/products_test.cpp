#include "worker/kernels/cpu/products.hpp"

#include <limits>

#include "common/number/rounding.hpp"
#include "tests/worker/kernels/kernel_test.hpp"
#include "worker/kernels/cpu/by_dtype.hpp"

namespace weir::worker::test {
namespace {

struct ProductShape {
  index_t m, n, k;
};
const std::vector<ProductShape> kProductShapes{
    {1, 1, 1}, {15, 16, 17}, {16, 31, 33}, {17, 33, 15}, {33, 1, 31},    {1, 64, 2},
    {0, 5, 4}, {4, 0, 3},    {128, 64, 1}, {31, 48, 96}, {300, 130, 127}};

/// Elements of one dtype between elements that are NaN.
class Elements {
 public:
  Elements(index_t rows, index_t columns, Dtype dtype)
      : rows_(rows), columns_(columns), dtype_(dtype), bytes_(bytes(rows * columns + 2 * kGuard)) {
    fill(all(), std::numeric_limits<float>::quiet_NaN());
  }
  Elements(index_t rows, index_t columns, Dtype dtype, std::mt19937_64& random)
      : Elements(rows, columns, dtype) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (index_t i = 0; i < rows * columns; ++i) set(i, uniform(random));
  }

  Matrix view() { return {all().part(kGuard, rows_ * columns_), rows_, columns_}; }
  Vector flat() { return view().flat(); }
  void set(index_t index, float value) { fill(flat().part(index, 1), value); }

  std::vector<float> values() { return widened(flat()); }
  Exact exact() {
    Exact all(rows_, columns_);
    std::ranges::copy(values(), all.span().begin());
    return all;
  }
  bool intact() {
    std::vector<float> guards = widened(all().first(kGuard));
    std::ranges::copy(widened(all().last(kGuard)), std::back_inserter(guards));
    return std::ranges::all_of(guards, [](float value) { return std::isnan(value); });
  }
  std::vector<std::byte> bits() {
    const auto here = flat().bytes();
    return {here.begin(), here.end()};
  }

 private:
  static constexpr index_t kGuard = 32;
  std::size_t bytes(index_t elements) const {
    return static_cast<std::size_t>(elements * bytes_of(dtype_));
  }
  Vector all() {
    return {bytes_.data(), dtype_, MemoryKind::host, std::ssize(bytes_) / bytes_of(dtype_)};
  }
  static void fill(Vector values, float value) {
    by_dtype(values.dtype(),
             [&]<class T>() { std::ranges::fill(as<T>(values), rounded_to<T>(value)); });
  }
  static std::vector<float> widened(Vector values) {
    std::vector<float> to(static_cast<std::size_t>(values.size()));
    by_dtype(values.dtype(), [&]<class T>() {
      std::ranges::transform(as<T>(values), to.begin(), [](T value) { return float_of(value); });
    });
    return to;
  }

  index_t rows_, columns_;
  Dtype dtype_;
  std::vector<std::byte> bytes_;
};

double epsilon_of(Dtype dtype) {
  double epsilon = 0;
  by_dtype(dtype, [&]<class T>() { epsilon = kEpsilon<T>; });
  return epsilon;
}

/// All magnitudes, for the bound of an error.
Exact magnitudes(Exact values) {
  for (double& value : values.span()) value = std::abs(value);
  return values;
}

/// The largest error against what it may be: 4 epsilons of f32 of the sum of magnitudes, as the sum
/// is in f32, and half an epsilon of the result's dtype (in fp16 at least that of 2^-14, below
/// which its numbers lie evenly).
double error_of(Elements& got, Exact want, Exact magnitude, Dtype out) {
  if (!got.intact()) return std::numeric_limits<double>::infinity();
  const std::vector<float> values = got.values();
  double largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double bound =
        4 * epsilon_of(Dtype::f32) * magnitude.span()[i] +
        (out == Dtype::f32 ? 0
                           : 0.5 * epsilon_of(out) * std::max(0x1p-14, std::abs(want.span()[i])));
    const double error = std::abs(values[i] - want.span()[i]);
    if (!(error <= bound)) largest = std::max(largest, bound > 0 ? error / bound : 1e30);
  }
  return largest;
}

struct Path {
  ProductLibrary library;
  Dtype in, out;
};
std::vector<ProductLibrary> libraries() {
  if (!onednn_packs(machine_instructions())) return {ProductLibrary::openblas};
  return {ProductLibrary::openblas, ProductLibrary::onednn};
}
/// Every way in which a product can be made here.
std::vector<Path> paths() {
  std::vector<Path> all;
  for (const ProductLibrary library : libraries()) {
    for (const Dtype in : {Dtype::f32, Dtype::bf16, Dtype::fp16}) {
      all.push_back({library, in, in});
      if (in != Dtype::f32) all.push_back({library, in, Dtype::f32});
    }
  }
  return all;
}
std::string name_of(const Path& path) {
  return text(name_of(path.library), ", ", name_of(path.in), " to ", name_of(path.out),
              ProductChoice{.library = path.library}.is_native(path.in) ? "" : " by conversion",
              ", on ", name_of(machine_instructions()));
}

TEST_CASE("products agree with the f64 twin on every path, with packed weights and without") {
  for (const Path& path : paths()) {
    std::mt19937_64 random(5);
    CpuKernels kernels(1, {.library = path.library});
    MESSAGE("path: ", name_of(path));
    for (const auto [m, n, k] : kProductShapes) {
      CAPTURE(m);
      CAPTURE(n);
      CAPTURE(k);
      Elements a(m, k, path.in, random);
      Elements b(k, n, path.in, random), b_transposed(n, k, path.in, random);
      Elements bias(1, n, path.in, random), wide_bias(1, n, Dtype::f32, random);
      Elements before(m, n, path.out, random);
      for (const bool is_packed : {false, true}) {
        CAPTURE(is_packed);
        if (is_packed) {
          kernels.pack(b.view(), {.multiply = true});
          kernels.pack(b_transposed.view(), {.multiply_transposed = true});
        }
        Exact want(m, n), magnitude(m, n);
        for (Elements* const with : {&bias, &wide_bias, static_cast<Elements*>(nullptr)}) {
          const Exact exact = with != nullptr ? with->exact() : Exact(0, 0);
          Elements out(m, n, path.out);
          kernels.multiply_transposed(a.view(), b_transposed.view(),
                                      with != nullptr ? with->flat() : ConstVector(), out.view());
          reference::multiply_transposed(a.exact().view(), b_transposed.exact().view(),
                                         exact.span(), want.view());
          reference::multiply_transposed(magnitudes(a.exact()).view(),
                                         magnitudes(b_transposed.exact()).view(),
                                         magnitudes(exact).span(), magnitude.view());
          CHECK(error_of(out, want, magnitude, path.out) <= 1);
        }
        for (const bool accumulate : {false, true}) {
          Elements out = accumulate ? before : Elements(m, n, path.out);
          want = before.exact();
          magnitude = magnitudes(before.exact());
          kernels.multiply(a.view(), b.view(), accumulate, out.view());
          reference::multiply(a.exact().view(), b.exact().view(), accumulate, want.view());
          reference::multiply(magnitudes(a.exact()).view(), magnitudes(b.exact()).view(),
                              accumulate, magnitude.view());
          CHECK(error_of(out, want, magnitude, path.out) <= 1);
        }
      }
    }
  }
}

TEST_CASE("transposed products agree with the f64 twin on every path") {
  for (const Path& path : paths()) {
    std::mt19937_64 random(6);
    CpuKernels kernels(1, {.library = path.library});
    MESSAGE("path: ", name_of(path));
    for (const auto [t, n, m] : kProductShapes) {
      CAPTURE(t);
      Elements a(t, m, path.in, random), b(t, n, path.in, random);
      Elements out(m, n, path.out, random);
      Exact want = out.exact(), magnitude = magnitudes(out.exact());
      kernels.add_transposed_product(a.view(), b.view(), out.view());
      reference::add_transposed_product(a.exact().view(), b.exact().view(), want.view());
      reference::add_transposed_product(magnitudes(a.exact()).view(), magnitudes(b.exact()).view(),
                                        magnitude.view());
      CHECK(error_of(out, want, magnitude, path.out) <= 1);
    }
  }
}

TEST_CASE("a row of a product by oneDNN has the same bits in every strip and number of rows") {
  constexpr index_t kRows = 300;
  for (const Path& path : paths()) {
    if (path.library != ProductLibrary::onednn) continue;
    CpuKernels kernels(1, {.library = path.library});
    MESSAGE("path: ", name_of(path));
    for (const auto& [n, k] : {std::pair<index_t, index_t>{1, 1},
                               {17, 33},
                               {96, 512},
                               {130, 127},
                               {1536, 512},
                               {512, 2048},
                               {64, 3000}}) {
      CAPTURE(n);
      CAPTURE(k);
      std::mt19937_64 random(7);
      Elements a(kRows, k, path.in, random), b(k, n, path.in, random);
      Elements b_transposed(n, k, path.in, random), bias(1, n, path.in, random);
      kernels.pack(b.view(), {.multiply = true});
      kernels.pack(b_transposed.view(), {.multiply_transposed = true});
      Elements whole(kRows, n, path.out), whole_transposed(kRows, n, path.out);
      kernels.multiply(a.view(), b.view(), false, whole.view());
      kernels.multiply_transposed(a.view(), b_transposed.view(), bias.flat(),
                                  whole_transposed.view());
      for (const index_t cut : {1, 3, 16, 63, 129}) {
        CAPTURE(cut);
        Elements out(kRows, n, path.out), transposed(kRows, n, path.out);
        for (index_t begin = 0; begin < kRows; begin += cut) {
          const index_t rows = std::min(cut, kRows - begin);
          kernels.multiply(a.view().rows(begin, rows), b.view(), false,
                           out.view().rows(begin, rows));
          kernels.multiply_transposed(a.view().rows(begin, rows), b_transposed.view(), bias.flat(),
                                      transposed.view().rows(begin, rows));
        }
        CHECK(out.bits() == whole.bits());
        CHECK(transposed.bits() == whole_transposed.bits());
      }
    }
  }
}

TEST_CASE("products read packed weights until they are packed again") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::fp16}) {
    std::mt19937_64 random(8);
    CpuKernels kernels(1, {.library = libraries().back()});
    if (dtype == Dtype::f32 && kernels.packed_bytes(40, 24, dtype, {.multiply = true}) == 0) {
      continue;  // OpenBLAS reads the weights where they are
    }
    Elements a(5, 40, dtype, random), b(40, 24, dtype, random), other(40, 24, dtype, random);
    const auto product = [&] {
      Elements out(5, 24, dtype);
      kernels.multiply(a.view(), b.view(), false, out.view());
      return out.bits();
    };
    kernels.pack(b.view(), {.multiply = true});
    const auto old = product();
    std::ranges::copy(other.bits(), b.flat().bytes().begin());
    CHECK(product() == old);
    kernels.pack(b.view(), {.multiply = true});
    const auto now = product();
    CHECK(now != old);
    kernels.pack(other.view(), {.multiply = true});  // another place: the first stays as it is
    CHECK(product() == now);
  }
}

TEST_CASE("what is not finite stays so and stays in its row and column, on every path") {
  const float inf = std::numeric_limits<float>::infinity();
  for (const Path& path : paths()) {
    CpuKernels kernels(1, {.library = path.library});
    MESSAGE("path: ", name_of(path));
    for (const index_t k : {1, 17, 31, 33, 64}) {
      CAPTURE(k);
      std::mt19937_64 random(9);
      const index_t m = 21, n = 19;
      Elements a(m, k, path.in, random), b(k, n, path.in, random);
      a.set(3 * k + k - 1, kNan);
      b.set((k - 1) * n + 7, inf);
      a.set(5 * k + k - 1, 0);  // 0 * inf
      kernels.pack(b.view(), {.multiply = true});
      Elements out(m, n, path.out);
      kernels.multiply(a.view(), b.view(), false, out.view());
      CHECK(out.intact());
      const std::vector<float> values = out.values();
      for (index_t r = 0; r < m; ++r) {
        for (index_t c = 0; c < n; ++c) {
          const float value = values[static_cast<std::size_t>(r * n + c)];
          const bool is_nan = r == 3 || (r == 5 && c == 7);
          CHECK(std::isnan(value) == is_nan);
          CHECK(std::isinf(value) == (c == 7 && !is_nan));
        }
      }
    }
  }
}

TEST_CASE("long packed products report progress about every millisecond, short ones do not") {
  for (const ProductLibrary library : libraries()) {
    int calls = 0;
    CpuKernels kernels(1, {.library = library});
    kernels.set_progress([&] { ++calls; });
    std::mt19937_64 random(10);
    Elements a(600, 512, Dtype::f32, random), b(512, 512, Dtype::f32, random);
    Elements out(600, 512, Dtype::f32);
    kernels.pack(b.view(), {.multiply = true});
    kernels.multiply(a.view().rows(0, 10), b.view(), false, out.view().rows(0, 10));
    CHECK(calls == 0);
    kernels.multiply(a.view(), b.view(), false, out.view());
    CHECK(calls >= 2);
    CHECK(calls <= 6);
  }
}

TEST_CASE("OpenBLAS in f32 packs nothing; every packed form is as large as said") {
  const WeightUses both = {.multiply = true, .multiply_transposed = true};
  const CpuKernels blas(1, {.library = ProductLibrary::openblas});
  CHECK(blas.packed_bytes(512, 256, Dtype::f32, both) == 0);
  if (libraries().size() == 1) return;
  const CpuKernels onednn(1, {.library = ProductLibrary::onednn});
  CHECK(onednn.packed_bytes(512, 256, Dtype::f32, both) == 2 * 512 * 256 * 4);
  CHECK(onednn.packed_bytes(512, 256, Dtype::f32, {.multiply = true}) == 512 * 256 * 4);
  CHECK(onednn.packed_bytes(512, 0, Dtype::f32, both) == 0);
  const index_t bf16 =
      ProductChoice{.library = ProductLibrary::onednn}.is_native(Dtype::bf16) ? 2 : 4;
  CHECK(onednn.packed_bytes(512, 256, Dtype::bf16, both) == 2 * 512 * 256 * bf16);
}

TEST_CASE("the table knows instructions, dtype, k and n, and nothing else") {
  const auto chosen = [](Instructions instructions, Dtype dtype, index_t k, index_t n) {
    return ProductChoice{.instructions = instructions}.library_for(dtype, k, n);
  };
  for (const Instructions strong :
       {Instructions::avx512, Instructions::avx512_bf16, Instructions::amx}) {
    CHECK(chosen(strong, Dtype::f32, 512, 2048) == ProductLibrary::onednn);
    CHECK(chosen(strong, Dtype::f32, 32, 32) == ProductLibrary::openblas);
    CHECK(chosen(strong, Dtype::f32, 128, 16) == ProductLibrary::onednn);
  }
  CHECK(chosen(Instructions::amx, Dtype::bf16, 8, 8) == ProductLibrary::onednn);
  CHECK(chosen(Instructions::avx2, Dtype::f32, 512, 512) == ProductLibrary::openblas);
  CHECK(chosen(Instructions::other, Dtype::bf16, 512, 512) == ProductLibrary::openblas);
  // Converted products go where f32 goes.
  CHECK(chosen(Instructions::avx512, Dtype::bf16, 512, 512) == ProductLibrary::onednn);
  CHECK(chosen(Instructions::avx512, Dtype::bf16, 8, 8) == ProductLibrary::openblas);
  const ProductChoice forced = {.library = ProductLibrary::openblas,
                                .instructions = Instructions::amx};
  CHECK(forced.library_for(Dtype::bf16, 512, 512) == ProductLibrary::openblas);
  CHECK(forced.describe() == "OpenBLAS with amx");
  CHECK(ProductChoice{.instructions = Instructions::avx2}.describe() == "OpenBLAS with avx2");
}

}  // namespace
}  // namespace weir::worker::test
