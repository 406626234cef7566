#include "benchmarks/product_rates.hpp"

#include <algorithm>
#include <vector>

#include "common/base/machine.hpp"
#include "common/number/memory.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::benchmark {

double measured_product_rate(const worker::ModelConfig& model, worker::ProductLibrary library,
                             Dtype dtype, index_t rounds) {
  struct Weights {
    index_t outputs, inputs;
  };
  const index_t width = model.width;
  const std::vector<Weights> block = {
      {3 * width, width}, {width, width}, {model.feed_forward, width}, {width, model.feed_forward}};
  worker::CpuKernels kernels(1, {.library = library});
  const index_t widest = std::max(3 * width, model.feed_forward);
  const auto matrix = [](const Memory& memory, Dtype of, index_t rows, index_t columns) {
    return Matrix(memory.elements(of), rows, columns);
  };
  // All zeros: products take as long as with other numbers.
  const Memory in(model.length * widest * bytes_of(dtype), 1);
  const Memory out(model.length * widest * bytes_of(dtype), 1);
  const Memory gradient(width * widest * bytes_of(Dtype::f32), 1);
  std::vector<Memory> weights;
  double flops = 0;
  for (const auto& [outputs, inputs] : block) {
    weights.emplace_back(outputs * inputs * bytes_of(dtype), 1);
    kernels.pack(matrix(weights.back(), dtype, outputs, inputs),
                 {.multiply = true, .multiply_transposed = true});
    flops += 3 * 2 * static_cast<double>(model.length) * static_cast<double>(outputs * inputs);
  }
  double best = 0;
  for (index_t round = 0; round < rounds; ++round) {
    const double begin = seconds_now();
    for (std::size_t at = 0; at < block.size(); ++at) {
      const auto [outputs, inputs] = block[at];
      const Matrix held = matrix(weights[at], dtype, outputs, inputs);
      const Matrix x = matrix(in, dtype, model.length, inputs);
      const Matrix y = matrix(out, dtype, model.length, outputs);
      kernels.multiply_transposed(x, held, {}, y);
      kernels.multiply(y, held, false, x);
      kernels.add_transposed_product(y, x, matrix(gradient, Dtype::f32, outputs, inputs));
    }
    best = std::max(best, flops / (seconds_now() - begin));
  }
  return best;
}

}  // namespace weir::benchmark
