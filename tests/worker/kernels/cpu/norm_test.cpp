#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

TEST_CASE("layer norm and its gradients agree with the formula over sizes, alignments, targets") {
  std::mt19937_64 random(31);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    for (const index_t columns : kAwkwardSizes) {
      for (const index_t rows : {1, 3}) {
        CAPTURE(rows);
        CAPTURE(columns);
        const index_t misalignment = columns % 4;
        BlockOf<T> x = BlockOf<T>(rows, columns, misalignment).randomize(random);
        for (T& value : x.span()) value = rounded_to<T>(2 * float_of(value) + 1);
        if (columns == 2) x.set(0, 1, x(0, 0) + 1);  // else 1 / deviation may be any size
        const BlockOf<T> weight = BlockOf<T>(1, columns, 1).randomize(random);
        const BlockOf<T> bias = BlockOf<T>(1, columns, 2).randomize(random);
        const BlockOf<T> upstream = BlockOf<T>(rows, columns, 3).randomize(random);
        BlockOf<T> out(rows, columns);
        Block mean(1, rows);
        Block inverse(1, rows);
        Exact exact_out(rows, columns);
        Exact exact_mean(1, rows);
        Exact exact_inverse(1, rows);
        kernels.layer_norm(x.view(), weight.span(), bias.span(), out.view(), mean.span(),
                           inverse.span());
        reference::layer_norm(Exact(x).view(), Exact(weight).span(), Exact(bias).span(),
                              exact_out.view(), exact_mean.span(), exact_inverse.span());
        const double deviation = 1 / *std::ranges::max_element(exact_inverse.span());
        const double gain = std::max(1.0, 1 / deviation);  // of a difference in x
        if (columns > 1) {
          CHECK(distance(out, exact_out, gain * 3) < 8);
          CHECK(distance(mean, exact_mean, 3) < 2);
          CHECK(distance(inverse, exact_inverse, gain * gain * 3) < 4);
        }

        BlockOf<T> x_gradient = BlockOf<T>(rows, columns).randomize(random);
        Block weight_gradient = Block(1, columns).randomize(random);
        Block bias_gradient = Block(1, columns).randomize(random);
        Exact exact_x(x_gradient);
        Exact exact_weight(weight_gradient);
        Exact exact_bias(bias_gradient);
        // From the same mean and deviation: the gradient's own error, not the forward's.
        kernels.layer_norm_backward(x.view(), weight.span(), mean.span(), inverse.span(),
                                    upstream.view(), x_gradient.view(), weight_gradient.span(),
                                    bias_gradient.span());
        reference::layer_norm_backward(Exact(x).view(), Exact(weight).span(), Exact(mean).span(),
                                       Exact(inverse).span(), Exact(upstream).view(),
                                       exact_x.view(), exact_weight.span(), exact_bias.span());
        const double steep = std::max(1.0, double{*std::ranges::max_element(inverse.span())});
        CHECK(distance(x_gradient, exact_x, steep * 3) < 8);
        CHECK(distance(weight_gradient, exact_weight, steep * 3) < 8);
        CHECK(distance(bias_gradient, exact_bias, 3) < 4);
      }
    }
  });
}

TEST_CASE("layer norm of a row far from zero keeps its deviation") {
  CpuKernels kernels;
  Block x(1, 64);
  for (index_t c = 0; c < 64; ++c) x.view()(0, c) = 10000 + static_cast<float>(c % 2);
  const Block weight = Block(1, 64).fill(1);
  const Block bias = Block(1, 64).fill(0);
  Block out(1, 64);
  Block mean(1, 1);
  Block inverse(1, 1);
  kernels.layer_norm(x.view(), weight.span(), bias.span(), out.view(), mean.span(), inverse.span());
  CHECK(mean.span()[0] == 10000.5F);
  CHECK(inverse.span()[0] == doctest::Approx(2).epsilon(1e-4));
}

TEST_CASE("a NaN makes its whole row NaN in layer norm, and no other row") {
  std::mt19937_64 random(32);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    BlockOf<T> x = BlockOf<T>(3, 21).randomize(random);
    x.set(1, 20, kNan);
    const BlockOf<T> weight = BlockOf<T>(1, 21).fill(1);
    const BlockOf<T> bias = BlockOf<T>(1, 21).fill(0);
    BlockOf<T> out(3, 21);
    Block mean(1, 3);
    Block inverse(1, 3);
    kernels.layer_norm(x.view(), weight.span(), bias.span(), out.view(), mean.span(),
                       inverse.span());
    for (index_t r = 0; r < 3; ++r) {
      for (index_t c = 0; c < 21; ++c) CHECK(std::isnan(out(r, c)) == (r == 1));
    }
  });
}

}  // namespace
}  // namespace weir::worker::test
