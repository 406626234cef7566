#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "common/base/text.hpp"
#include "tests/worker/numbers.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"
#include "worker/layers/held.hpp"

namespace weir::test {

/// A rank-2 look at the rows of x.
inline View<float, 2> matrix(std::vector<float>& x, index_t rows) {
  return {x.data(), {rows, std::ssize(x) / rows}};
}
inline View<double, 2> matrix(std::vector<double>& x, index_t rows) {
  return {x.data(), {rows, std::ssize(x) / rows}};
}
inline View<const double, 2> matrix(const std::vector<double>& x, index_t offset, index_t rows,
                                    index_t columns) {
  return {x.data() + offset, {rows, columns}};
}

// Two heads of 2 are held of three, so a layer of attention is that of a shard.
inline constexpr index_t kWidth = 6;  // E
inline constexpr index_t kHeads = 2;
inline constexpr index_t kHeld = 4;  // heads * C

/// Random weights for one layer, gradients that are not zero at first, and kernels.
class Rig {
 public:
  worker::HeldMatrix matrix(index_t rows, index_t columns) {
    return {grow(rows * columns), rows, columns};
  }
  worker::HeldVector vector(index_t size) { return {grow(size), size}; }
  worker::Pass pass() { return pass(kernels_, alone_); }
  worker::Pass pass(worker::Kernels& kernels, worker::TensorGroup& shards) {
    return {kernels, shards, whole_, weights, gradients, 5, true};
  }

  static constexpr float kBefore = 0.25F;  ///< each gradient's value before
  std::vector<float> weights;
  std::vector<float> gradients;

 private:
  index_t grow(index_t size) {
    const index_t offset = std::ssize(weights);
    const auto values = random_values(size, 1, text("weights from ", offset), 0.5F);
    weights.insert(weights.end(), values.begin(), values.end());
    gradients.resize(weights.size(), kBefore);
    return offset;
  }

  worker::CpuKernels kernels_;
  worker::SingleShard alone_;
  worker::SingleContext whole_;
};

/// A layer in double: its output for these weights and this input.
using Formula =
    std::function<std::vector<double>(const std::vector<double>& weights, std::vector<double> x)>;

/// What a layer under test has made of x.
struct Found {
  std::vector<float> out;
  std::vector<float> x_gradient;  ///< for `out_gradient`
};

/// Holds out against the formula, and both gradients against the formula's slopes. The rig's
/// gradients must have been added to.
inline void check_layer(const Rig& rig, const std::vector<float>& x,
                        const std::vector<float>& out_gradient, const Found& found,
                        const Formula& formula) {
  std::vector<double> weights = in_double(rig.weights);
  std::vector<double> input = in_double(x);
  check_close(found.out, formula(weights, input), 2e-6, 1);
  const auto loss = [&] {
    const std::vector<double> out = formula(weights, input);
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * double(out_gradient[i]);
    return sum;
  };
  if (!found.x_gradient.empty()) check_close(found.x_gradient, slopes(input, loss), 5e-6, 1);
  std::vector<double> truth = slopes(weights, loss);
  for (double& value : truth) value += double{Rig::kBefore};
  check_close(rig.gradients, truth, 5e-6, 1);
}

}  // namespace weir::test
