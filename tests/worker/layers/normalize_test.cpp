#include "worker/layers/normalize.hpp"

#include <doctest/doctest.h>

#include "tests/reference.hpp"
#include "tests/worker/layers/rig.hpp"

using namespace weir;
using namespace weir::test;

TEST_CASE("a norm's output and gradients, from a copy of x that outlives x") {
  constexpr index_t kRows = 3;
  constexpr index_t kWidth = 5;
  Rig rig;
  const worker::Norm layer = {rig.vector(kWidth), rig.vector(kWidth)};
  worker::Carved<worker::NormActivations> kept(index_t{8}, kWidth,
                                               Dtype::f32);  // fewer rows than there is room
  const std::vector<float> x = random_values(kRows * kWidth, 1, "x");
  std::vector<float> overwritten = x;
  std::vector<float> out_gradient = random_values(kRows * kWidth, 1, "gradient");
  Found found = {std::vector<float>(x.size(), 7), random_values(kRows * kWidth, 1, "before")};
  const std::vector<float> before = found.x_gradient;

  layer.forward(rig.pass(), matrix(overwritten, kRows), kept, matrix(found.out, kRows));
  std::ranges::fill(overwritten, 7.0F);
  layer.backward(rig.pass(), kept, matrix(out_gradient, kRows), matrix(found.x_gradient, kRows));
  for (std::size_t i = 0; i < before.size(); ++i) found.x_gradient[i] -= before[i];
  check_layer(rig, x, out_gradient, found, [](const auto& weights, auto input) {
    std::vector<double> out(input.size());
    std::vector<double> mean(kRows);
    std::vector<double> inverse(kRows);
    reference::layer_norm(matrix(input, kRows), std::span(weights).first(kWidth),
                          std::span(weights).last(kWidth), matrix(out, kRows), mean, inverse);
    return out;
  });

  std::vector<float> again(x.size());
  layer.again(rig.pass(), kept, matrix(again, kRows));
  CHECK(again == found.out);
}
