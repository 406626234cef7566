#include "worker/layers/embedding.hpp"

#include <doctest/doctest.h>

#include "tests/worker/layers/rig.hpp"
#include "tests/worker/shards.hpp"

using namespace weir;
using namespace weir::test;

TEST_CASE("an embedding is its tokens' rows plus its places' rows; gradients add up per row") {
  constexpr index_t kWidth = 3;
  const std::vector<std::int32_t> tokens = {4, 0, 4, 2, 4, 3};  // two sequences; 1 is not met
  const std::vector<index_t> lengths = {3, 3};
  const worker::MicroBatch batch = {2, 3, {{"tokens", tokens}}, lengths, lengths};
  Rig rig;
  const worker::Embedding layer = {rig.matrix(5, kWidth), 0, rig.matrix(4, kWidth)};
  Found found = {std::vector<float>(6 * kWidth, 7), {}};
  std::vector<float> out_gradient = random_values(6 * kWidth, 1, "gradient");
  layer.forward(rig.pass(), batch, matrix(found.out, 6));
  layer.weight_gradient(rig.pass(), batch, matrix(out_gradient, 6));
  check_layer(rig, {}, out_gradient, found, [&](const auto& weights, auto) {
    std::vector<double> out;
    for (std::size_t row = 0; row < 6; ++row) {
      for (std::size_t c = 0; c < kWidth; ++c) {
        out.push_back(weights[tokens[row] * kWidth + c] + weights[(5 + row % 3) * kWidth + c]);
      }
    }
    return out;
  });
}

TEST_CASE("a part of a sequence takes its own places") {
  constexpr index_t kWidth = 3;
  const std::vector<std::int32_t> tokens = {4, 0, 4, 2, 4, 3};
  const std::vector<index_t> lengths = {7, 7};
  const worker::MicroBatch batch = {2, 3, {{"tokens", tokens}}, lengths, lengths, 4};
  Rig rig;
  const worker::Embedding layer = {rig.matrix(5, kWidth), 0, rig.matrix(8, kWidth)};
  Found found = {std::vector<float>(6 * kWidth, 7), {}};
  std::vector<float> out_gradient = random_values(6 * kWidth, 1, "gradient");
  layer.forward(rig.pass(), batch, matrix(found.out, 6));
  layer.weight_gradient(rig.pass(), batch, matrix(out_gradient, 6));
  check_layer(rig, {}, out_gradient, found, [&](const auto& weights, auto) {
    std::vector<double> out;
    for (std::size_t row = 0; row < 6; ++row) {
      for (std::size_t c = 0; c < kWidth; ++c) {
        out.push_back(weights[tokens[row] * kWidth + c] + weights[(5 + 4 + row % 3) * kWidth + c]);
      }
    }
    return out;
  });
}

TEST_CASE("over shards, one of them without a row, every shard gets its own rows") {
  constexpr index_t kWidth = 2;
  const std::vector<std::int32_t> tokens = {0, 1, 2, 3};
  const std::vector<index_t> lengths = {4};
  const worker::MicroBatch batch = {1, 4, {{"tokens", tokens}}, lengths, lengths};
  Rig rig;
  const worker::HeldMatrix table = rig.matrix(4, kWidth);
  const worker::HeldMatrix positions = rig.matrix(4, kWidth);
  std::vector<float> truth(8);
  worker::Embedding{table, 0, positions}.forward(rig.pass(), batch, matrix(truth, 4));
  std::vector<float> gradient = random_values(8, 1, "gradient");
  ThreadShards(3).run([&](worker::TensorGroup& group) {  // 2, 2 and 0 rows
    const index_t first = std::min<index_t>(4, 2 * group.index());
    const index_t rows = group.index() < 2 ? 2 : 0;
    const worker::Embedding layer = {{first * kWidth, rows, kWidth}, first, positions};
    worker::CpuKernels kernels;
    std::vector<float> out(8, 7);
    layer.forward(rig.pass(kernels, group), batch, matrix(out, 4));
    const Interval own_rows = group.own_rows(4);  // 1, 1 and 2 rows
    for (index_t i = own_rows.begin * kWidth; i < own_rows.end * kWidth; ++i) {
      CHECK(out[i] == truth[i]);  // one shard has a row, the others add zeros
    }

    std::vector<float> own(rig.weights.size());
    worker::Pass pass = rig.pass(kernels, group);
    pass.gradients = own;
    layer.weight_gradient(pass, batch, matrix(gradient, 4));
    for (index_t i = 0; i < 8; ++i) {
      const bool held = i >= first * kWidth && i < (first + rows) * kWidth;
      const auto at = static_cast<std::size_t>(i);
      CHECK(own[at] == (held ? gradient[at] : 0));
      CHECK(own[8 + at] == (own_rows.holds(i / kWidth) ? gradient[at] : 0));
    }
  });
}
