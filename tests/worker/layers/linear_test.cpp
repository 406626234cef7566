#include "worker/layers/linear.hpp"

#include <doctest/doctest.h>

#include "tests/reference.hpp"
#include "tests/worker/layers/rig.hpp"
#include "tests/worker/shards.hpp"

using namespace weir;
using namespace weir::test;
using worker::ColumnLinear;
using worker::RowLinear;

TEST_CASE("a column-cut product is x W^T + b, and its gradients are the slopes") {
  constexpr index_t kRows = 5;
  Rig rig;
  const ColumnLinear layer = {rig.matrix(4, 3), rig.vector(4)};
  std::vector<float> x = random_values(kRows * 3, 1, "x");
  std::vector<float> out_gradient = random_values(kRows * 4, 1, "gradient");
  Found found = {std::vector<float>(kRows * 4, 7), std::vector<float>(kRows * 3, 7)};
  layer.forward(rig.pass(), matrix(x, kRows), matrix(found.out, kRows));
  layer.backward(rig.pass(), matrix(out_gradient, kRows), matrix(found.x_gradient, kRows));
  layer.weight_gradient(rig.pass(), matrix(out_gradient, kRows), matrix(x, kRows));
  check_layer(rig, x, out_gradient, found, [](const auto& weights, auto input) {
    std::vector<double> out(kRows * 4);
    reference::multiply_transposed(matrix(input, kRows), matrix(weights, 0, 4, 3),
                                   std::span(weights).subspan(12), matrix(out, kRows));
    return out;
  });
}

TEST_CASE("outputs without a bias have none: the others' are held side by side") {
  constexpr index_t kRows = 5;
  for (const Interval unbiased : {Interval{2, 4}, Interval{0, 2}, Interval{4, 6}}) {
    CAPTURE(unbiased.begin);
    Rig rig;
    const ColumnLinear layer = {rig.matrix(6, 3), rig.vector(4), unbiased};
    std::vector<float> x = random_values(kRows * 3, 1, "x");
    std::vector<float> out_gradient = random_values(kRows * 6, 1, "gradient");
    Found found = {std::vector<float>(kRows * 6, 7), std::vector<float>(kRows * 3, 7)};
    layer.forward(rig.pass(), matrix(x, kRows), matrix(found.out, kRows));
    layer.backward(rig.pass(), matrix(out_gradient, kRows), matrix(found.x_gradient, kRows));
    layer.weight_gradient(rig.pass(), matrix(out_gradient, kRows), matrix(x, kRows));
    check_layer(rig, x, out_gradient, found, [&](const auto& weights, auto input) {
      std::vector<double> bias(6, 0.0);
      std::size_t held = 18;
      for (index_t output = 0; output < 6; ++output) {
        if (unbiased.holds(output)) continue;
        bias[output] = weights[held++];
      }
      std::vector<double> out(kRows * 6);
      reference::multiply_transposed(matrix(input, kRows), matrix(weights, 0, 6, 3),
                                     std::span<const double>(bias), matrix(out, kRows));
      return out;
    });
  }
}

TEST_CASE("a row-cut product is x W + b, and its gradients are the slopes") {
  constexpr index_t kRows = 5;
  Rig rig;
  const RowLinear layer = {rig.matrix(3, 4), rig.vector(4)};
  std::vector<float> x = random_values(kRows * 3, 1, "x");
  std::vector<float> out_gradient = random_values(kRows * 4, 1, "gradient");
  Found found = {std::vector<float>(kRows * 4, 7), std::vector<float>(kRows * 3, 7)};
  layer.forward(rig.pass(), matrix(x, kRows), matrix(found.out, kRows));
  layer.backward(rig.pass(), matrix(out_gradient, kRows), matrix(found.x_gradient, kRows));
  layer.weight_gradient(rig.pass(), matrix(out_gradient, kRows), matrix(x, kRows));
  check_layer(rig, x, out_gradient, found, [](const auto& weights, auto input) {
    std::vector<double> out(kRows * 4);
    reference::multiply(matrix(input, kRows), matrix(weights, 0, 3, 4), false, matrix(out, kRows));
    reference::add_bias(std::span(weights).subspan(12), matrix(out, kRows));
    return out;
  });
}

TEST_CASE("a row-cut product over three shards adds the bias once, with one sum") {
  constexpr index_t kRows = 4;  // own rows: 1, 1 and 2
  Rig rig;
  const RowLinear whole = {rig.matrix(6, 4), rig.vector(4)};
  std::vector<float> x = random_values(kRows * 6, 1, "x");
  std::vector<float> truth(kRows * 4);
  whole.forward(rig.pass(), matrix(x, kRows), matrix(truth, kRows));
  ThreadShards(3).run([&](worker::TensorGroup& group) {
    const index_t first = 2 * group.index();
    const RowLinear part = {{whole.weight.offset + first * 4, 2, 4}, whole.bias};
    std::vector<float> columns;  // of x, this shard's
    for (index_t row = 0; row < kRows; ++row) {
      for (index_t c = first; c < first + 2; ++c) {
        columns.push_back(x[row * 6 + c]);
      }
    }
    worker::CpuKernels kernels;
    std::vector<float> out(kRows * 4);
    part.forward(rig.pass(kernels, group), matrix(columns, kRows), matrix(out, kRows));
    const Interval own = group.own_rows(kRows);
    for (index_t i = 4 * own.begin; i < 4 * own.end; ++i) {
      CHECK(out[i] == doctest::Approx(truth[i]).epsilon(1e-6));
    }
  });
}
