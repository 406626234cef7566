#include "worker/layers/attention.hpp"

#include <doctest/doctest.h>

#include "tests/reference.hpp"
#include "tests/worker/layers/rig.hpp"

using namespace weir;
using namespace weir::test;

namespace {

/// E = 6: two heads of 2 are held of three, so the layer is a shard's.
void check_attention(const worker::Sparsity& sparsity, bool rotary,
                     const std::vector<index_t>& lengths) {
  constexpr index_t kTokens = 7;
  constexpr index_t kWidth = 6;
  constexpr index_t kHeads = 2;
  constexpr index_t kHeld = 4;  // heads * C
  const auto rows = static_cast<index_t>(lengths.size()) * kTokens;
  Rig rig;
  worker::AttentionLayer layer;
  layer.query_key_value = {rig.matrix(3 * kHeld, kWidth), rig.vector(3 * kHeld)};
  layer.output = {rig.matrix(kHeld, kWidth), rig.vector(kWidth)};
  layer.heads = kHeads;
  layer.rotary = rotary;
  layer.sparsity = sparsity;
  const std::vector<index_t> samples(lengths.size());
  const worker::MicroBatch batch = {
      static_cast<index_t>(lengths.size()), kTokens, {}, {}, lengths, samples};
  std::vector<float> x = random_values(rows * kWidth, 1, "x");
  std::vector<float> out_gradient = random_values(rows * kWidth, 1, "gradient");
  Found found = {std::vector<float>(x.size(), 7), std::vector<float>(x.size(), 7)};
  worker::Carved<worker::AttentionActivations> kept(rows + 3, kHeads, kHeld / kHeads);
  std::vector<float> heads_gradient(static_cast<std::size_t>(rows * kHeld), 7);
  std::vector<float> qkv_gradient(static_cast<std::size_t>(rows * 3 * kHeld), 7);

  layer.forward(rig.pass(), batch, matrix(x, rows), kept, matrix(found.out, rows));
  layer.backward(rig.pass(), batch, kept, matrix(out_gradient, rows), matrix(heads_gradient, rows),
                 matrix(qkv_gradient, rows), matrix(found.x_gradient, rows));
  layer.weight_gradient(rig.pass(), kept, matrix(x, rows), matrix(out_gradient, rows),
                        matrix(qkv_gradient, rows));
  check_layer(rig, x, out_gradient, found, [&](const auto& weights, auto input) {
    std::vector<double> qkv(static_cast<std::size_t>(rows * 3 * kHeld));
    std::vector<double> heads(static_cast<std::size_t>(rows * kHeld));
    std::vector<double> log_sum(static_cast<std::size_t>(rows * kHeads));
    std::vector<double> out(input.size());
    const std::span<const double> all(weights);
    constexpr index_t kOutput = 3 * kHeld * kWidth + 3 * kHeld;
    reference::multiply_transposed(matrix(input, rows), matrix(weights, 0, 3 * kHeld, kWidth),
                                   all.subspan(3 * kHeld * kWidth, 3 * kHeld), matrix(qkv, rows));
    if (rotary) reference::rotate(matrix(qkv, rows), kHeads, kTokens, 1);
    reference::attention(matrix(qkv, rows), kHeads, lengths, sparsity, matrix(heads, rows),
                         log_sum);
    reference::multiply(matrix(heads, rows), matrix(weights, kOutput, kHeld, kWidth), false,
                        matrix(out, rows));
    reference::add_bias(all.last(kWidth), matrix(out, rows));
    return out;
  });
}

}  // namespace

TEST_CASE("causal attention with rotation: output and gradients") {
  check_attention({.left = 2, .right = 0, .globals = 1, .causal = true}, true, {7, 7});
}

TEST_CASE("bidirectional attention without rotation over ragged lengths: output and gradients") {
  check_attention({.left = 1, .right = 2, .globals = 2, .causal = false}, false, {7, 3, 1});
}
