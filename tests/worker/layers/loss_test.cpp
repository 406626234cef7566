#include "worker/layers/loss.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/worker/layers/rig.hpp"
#include "tests/worker/shards.hpp"

using namespace weir;
using namespace weir::test;
using worker::VocabularyLoss;

namespace {

constexpr index_t kRows = 10;
constexpr index_t kLossWidth = 4;
const std::vector<std::int32_t> kTargets = {0, 3, -1, 2, 1, 4, -1, 0, 0, 2};

/// From the definition, in double.
double cross_entropy_of(const std::vector<double>& weights, const std::vector<double>& x,
                        index_t vocabulary, std::span<const std::int32_t> targets) {
  double loss = 0;
  for (std::size_t row = 0; row < kRows; ++row) {
    if (targets[row] < 0) continue;
    double sum = 0;
    double target_logit = 0;
    for (std::size_t v = 0; v < static_cast<std::size_t>(vocabulary); ++v) {
      double logit = 0;
      for (std::size_t c = 0; c < kLossWidth; ++c)
        logit += weights[v * kLossWidth + c] * x[row * kLossWidth + c];
      sum += std::exp(logit);
      if (static_cast<std::int32_t>(v) == targets[row]) target_logit = logit;
    }
    loss += std::log(sum) - target_logit;
  }
  return loss;
}

worker::Carved<worker::LossScratch> scratch_of(index_t strip_rows, index_t columns) {
  return worker::Carved<worker::LossScratch>(strip_rows, columns, Dtype::f32);
}

}  // namespace

TEST_CASE(
    "loss and gradients of the vocabulary are those of the definition, in strips of any size") {
  for (const index_t strip_rows : {1, 3, 4, 10}) {
    CAPTURE(strip_rows);
    Rig rig;
    const VocabularyLoss layer = {rig.matrix(5, kLossWidth), 0};
    std::vector<float> x = random_values(kRows * kLossWidth, 1, "x", 2);
    std::vector<float> x_gradient(x.size(), 7);
    const worker::Loss loss = layer.forward(rig.pass(), kTargets, matrix(x, kRows),
                                            scratch_of(strip_rows, 5), matrix(x_gradient, kRows));
    std::vector<double> weights = in_double(rig.weights);
    std::vector<double> input = in_double(x);
    const auto truth = [&] { return cross_entropy_of(weights, input, 5, kTargets); };
    CHECK(loss.count == 8);
    CHECK(loss.sum == doctest::Approx(truth()).epsilon(1e-6));
    check_close(x_gradient, slopes(input, truth), 5e-6, 1);
    std::vector<double> weight_gradient = slopes(weights, truth);
    for (double& value : weight_gradient) value += double{Rig::kBefore};
    check_close(rig.gradients, weight_gradient, 5e-6, 1);
  }
}

TEST_CASE("shards with uneven and empty slices find the loss and gradients of one shard") {
  struct Slices {
    index_t vocabulary;
    std::vector<index_t> rows;
  };
  for (const Slices& slices : {Slices{5, {2, 2, 1}}, Slices{5, {3, 2, 0}}, Slices{5, {5, 0, 0}}}) {
    CAPTURE(slices.rows);
    Rig rig;
    const worker::HeldMatrix whole = rig.matrix(slices.vocabulary, kLossWidth);
    std::vector<float> x = random_values(kRows * kLossWidth, 1, "x", 2);
    std::vector<float> truth(x.size());
    const worker::Loss loss =
        VocabularyLoss{whole, 0}.forward(rig.pass(), kTargets, matrix(x, kRows),
                                         scratch_of(10, slices.vocabulary), matrix(truth, kRows));
    std::vector<float> gradients(rig.weights.size(), Rig::kBefore);
    ThreadShards(3).run([&](worker::TensorGroup& group) {
      const auto shard = static_cast<std::size_t>(group.index());
      index_t first = 0;
      for (std::size_t before = 0; before < shard; ++before) first += slices.rows[before];
      const VocabularyLoss layer = {{first * kLossWidth, slices.rows[shard], kLossWidth}, first};
      worker::CpuKernels kernels;
      worker::Pass pass = rig.pass(kernels, group);
      pass.gradients = gradients;  // each shard has rows of its own
      std::vector<float> x_gradient(x.size(), 7);
      const worker::Loss found =
          layer.forward(pass, kTargets, matrix(x, kRows), scratch_of(4, slices.rows[0]),
                        matrix(x_gradient, kRows));
      CHECK(found.sum == doctest::Approx(loss.sum).epsilon(1e-6));
      CHECK(found.count == loss.count);
      CHECK(found.correct == loss.correct);
      group.sum(x_gradient);
      check_close(x_gradient, truth, 2e-6, 1);
    });
    check_close(gradients, rig.gradients, 2e-6, 1);
  }
}

TEST_CASE("evaluation touches no gradient, and large logits do not overflow") {
  Rig rig;
  const VocabularyLoss layer = {rig.matrix(5, kLossWidth), 0};
  for (float& weight : rig.weights) weight *= 1000;
  std::vector<float> x = random_values(kRows * kLossWidth, 1, "x");
  std::vector<float> x_gradient(x.size(), 7);
  worker::Pass pass = rig.pass();
  pass.training = false;
  pass.gradients = {};
  const worker::Loss loss =
      layer.forward(pass, kTargets, matrix(x, kRows), scratch_of(4, 5), matrix(x_gradient, kRows));
  CHECK(std::isfinite(loss.sum));
  CHECK(x_gradient == std::vector<float>(x.size(), 7));
}

TEST_CASE("correct are the terms whose target has the greatest logit") {
  const std::vector<std::int32_t> targets = {1, 2, -1, 0};
  const std::vector<float> maximum = {3, 4, 5, 6};
  const std::vector<float> sums = {1, 1, 1, 1};
  const std::vector<float> logits = {3, 3, 0, 6};
  const worker::Loss loss = worker::CpuKernels().cross_entropy(targets, maximum, sums, logits);
  CHECK(loss.correct == 2);
  CHECK(loss.count == 3);
  CHECK(loss.sum == 1.0);
}

TEST_CASE(
    "a strip has about 1 MiB of logits, no more rows than there are, not too few for a product") {
  CHECK(worker::CpuKernels().product_strip(4096, 256) == 1024);
  CHECK(worker::CpuKernels().product_strip(100, 256) == 100);
  CHECK(worker::CpuKernels().product_strip(4096, 50000) == 64);
  CHECK(worker::CpuKernels().product_strip(10, 50000) == 10);
  CHECK(worker::CpuKernels().product_strip(10, 0) == 10);
}
