#include "worker/layers/feed_forward.hpp"

#include <doctest/doctest.h>

#include "tests/reference.hpp"
#include "tests/worker/layers/rig.hpp"

using namespace weir;
using namespace weir::test;

TEST_CASE("a feed-forward layer's output and gradients") {
  constexpr index_t kRows = 4;
  constexpr index_t kWidth = 3;
  constexpr index_t kInner = 5;
  Rig rig;
  worker::FeedForwardLayer layer;
  layer.up = {rig.matrix(kInner, kWidth), rig.vector(kInner)};
  layer.down = {rig.matrix(kInner, kWidth), rig.vector(kWidth)};
  std::vector<float> x = random_values(kRows * kWidth, 1, "x", 2);
  std::vector<float> out_gradient = random_values(kRows * kWidth, 1, "gradient");
  std::vector<float> hidden(kRows * kInner, 7);
  std::vector<float> hidden_gradient(kRows * kInner, 7);
  Found found = {std::vector<float>(x.size(), 7), std::vector<float>(x.size(), 7)};
  worker::Carved<worker::FeedForwardActivations> kept(kRows + 2, kInner, Dtype::f32);

  layer.forward(rig.pass(), matrix(x, kRows), kept, matrix(hidden, kRows),
                matrix(found.out, kRows));
  std::ranges::fill(hidden, 7.0F);
  layer.backward(rig.pass(), kept, matrix(out_gradient, kRows), matrix(hidden_gradient, kRows),
                 matrix(found.x_gradient, kRows));
  layer.weight_gradient(rig.pass(), kept, matrix(x, kRows), matrix(out_gradient, kRows),
                        matrix(hidden_gradient, kRows));
  check_layer(rig, x, out_gradient, found, [](const auto& weights, auto input) {
    std::vector<double> inner(kRows * kInner);
    std::vector<double> out(input.size());
    const std::span<const double> all(weights);
    reference::multiply_transposed(matrix(input, kRows), matrix(weights, 0, kInner, kWidth),
                                   all.subspan(kInner * kWidth, kInner), matrix(inner, kRows));
    reference::gelu(inner, inner);
    reference::multiply(matrix(inner, kRows),
                        matrix(weights, kInner * kWidth + kInner, kInner, kWidth), false,
                        matrix(out, kRows));
    reference::add_bias(all.last(kWidth), matrix(out, kRows));
    return out;
  });
}
