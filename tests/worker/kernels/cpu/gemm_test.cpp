#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

struct Shape {
  index_t m, n, k;
};
// The last ones are cut into panels: 2 x 10^8 multiply-adds.
const std::vector<Shape> kShapes{{1, 1, 1},   {3, 7, 5},       {16, 16, 16},   {17, 31, 33},
                                 {64, 1, 65}, {1, 64, 2},      {0, 5, 4},      {4, 0, 3},
                                 {3, 4, 0},   {130, 129, 127}, {700, 300, 520}};

TEST_CASE("products agree with the naive sums for any shape and alignment") {
  std::mt19937_64 random(11);
  CpuKernels kernels;
  for (const auto [m, n, k] : kShapes) {
    for (const index_t misalignment : {0, 1, 5}) {
      CAPTURE(m);
      CAPTURE(n);
      CAPTURE(k);
      CAPTURE(misalignment);
      const double magnitude = static_cast<double>(k + 1);  // of the sum of |a b|
      const Block a = Block(m, k, misalignment).randomize(random);
      const Block a_transposed = Block(k, m, misalignment).randomize(random);
      const Block b = Block(k, n, misalignment).randomize(random);
      const Block b_transposed = Block(n, k, misalignment).randomize(random);
      const Block bias = Block(1, n, misalignment).randomize(random);
      const Block before = Block(m, n, misalignment).randomize(random);

      Block out(m, n, misalignment);
      Exact exact(m, n);
      kernels.multiply_transposed(a.view(), b_transposed.view(), bias.span(), out.view());
      reference::multiply_transposed(Exact(a).view(), Exact(b_transposed).view(),
                                     Exact(bias).span(), exact.view());
      CHECK(distance(out, exact, magnitude) < 1);

      out.fill(kNan);  // what stood there must not matter
      kernels.multiply_transposed(a.view(), b_transposed.view(), {}, out.view());
      reference::multiply_transposed(Exact(a).view(), Exact(b_transposed).view(), {}, exact.view());
      CHECK(distance(out, exact, magnitude) < 1);

      out.fill(kNan);
      kernels.multiply(a.view(), b.view(), false, out.view());
      reference::multiply(Exact(a).view(), Exact(b).view(), false, exact.view());
      CHECK(distance(out, exact, magnitude) < 1);

      out = before;
      exact = before;
      kernels.multiply(a.view(), b.view(), true, out.view());
      reference::multiply(Exact(a).view(), Exact(b).view(), true, exact.view());
      CHECK(distance(out, exact, magnitude) < 1);

      out = before;
      exact = before;
      kernels.add_transposed_product(a_transposed.view(), b.view(), out.view());
      reference::add_transposed_product(Exact(a_transposed).view(), Exact(b).view(), exact.view());
      CHECK(distance(out, exact, magnitude) < 1);
    }
  }
}

TEST_CASE("a NaN in a factor reaches its row of the product, and no other") {
  std::mt19937_64 random(12);
  CpuKernels kernels;
  Block a = Block(5, 9).randomize(random);
  const Block b = Block(9, 6).randomize(random);
  a.view()(3, 4) = kNan;
  Block out(5, 6);
  kernels.multiply(a.view(), b.view(), false, out.view());
  for (index_t r = 0; r < 5; ++r) {
    for (index_t c = 0; c < 6; ++c) CHECK(std::isnan(out.view()(r, c)) == (r == 3));
  }
}

TEST_CASE("long products report progress between panels, short ones do not") {
  int calls = 0;
  CpuKernels kernels;
  kernels.set_progress([&] { ++calls; });
  const Block a = Block(600, 512).fill(1);
  const Block b = Block(512, 512).fill(1);
  Block out(600, 512);
  kernels.multiply(a.view().rows(0, 10), b.view(), false, out.view().rows(0, 10));
  CHECK(calls == 0);
  kernels.multiply(a.view(), b.view(), false, out.view());
  CHECK(calls >= 2);
  calls = 0;
  kernels.multiply_transposed(a.view(), b.view(), {}, out.view());
  CHECK(calls >= 2);
  calls = 0;
  Block product = Block(512, 512).fill(0);
  kernels.add_transposed_product(a.view(), out.view(), product.view());
  CHECK(calls >= 2);
}

}  // namespace
}  // namespace weir::worker::test
