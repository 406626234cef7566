#include "benchmarks/product_rates.hpp"

#include <algorithm>
#include <vector>

#include "common/base/machine.hpp"
#include "common/number/memory.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::benchmark {
namespace {

Matrix matrix_in(const Memory& memory, Dtype dtype, index_t rows, index_t columns) {
  return Matrix(memory.elements(dtype), rows, columns);
}

}  // namespace

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
  // All zeros: products take as long as with other numbers.
  const Memory in(model.length * widest * bytes_of(dtype), 1);
  const Memory out(model.length * widest * bytes_of(dtype), 1);
  const Memory gradient(width * widest * bytes_of(Dtype::f32), 1);
  std::vector<Memory> weights;
  double flops = 0;
  for (const auto& [outputs, inputs] : block) {
    weights.emplace_back(outputs * inputs * bytes_of(dtype), 1);
    kernels.pack(matrix_in(weights.back(), dtype, outputs, inputs),
                 {.multiply = true, .multiply_transposed = true});
    flops += 3 * 2 * static_cast<double>(model.length) * static_cast<double>(outputs * inputs);
  }
  double best = 0;
  for (index_t round = 0; round < rounds; ++round) {
    const double begin = seconds_now();
    for (std::size_t at = 0; at < block.size(); ++at) {
      const auto [outputs, inputs] = block[at];
      const Matrix held = matrix_in(weights[at], dtype, outputs, inputs);
      const Matrix x = matrix_in(in, dtype, model.length, inputs);
      const Matrix y = matrix_in(out, dtype, model.length, outputs);
      kernels.multiply_transposed(x, held, {}, y);
      kernels.multiply(y, held, false, x);
      kernels.add_transposed_product(y, x, matrix_in(gradient, Dtype::f32, outputs, inputs));
    }
    best = std::max(best, flops / (seconds_now() - begin));
  }
  return best;
}

double measured_product_rate(const std::vector<ProductShape>& shapes,
                             worker::ProductLibrary library, Dtype dtype, double seconds) {
  struct Operands {
    Memory a, b, out;
  };
  worker::CpuKernels kernels(1, {.library = library});
  std::vector<Operands> operands;
  double flops = 0;
  for (const auto& [m, k, n] : shapes) {
    operands.push_back({Memory(m * k, bytes_of(dtype)), Memory(k * n, bytes_of(dtype)),
                        Memory(m * n, bytes_of(Dtype::f32))});
    kernels.pack(matrix_in(operands.back().b, dtype, n, k), {.multiply_transposed = true});
    flops += 2 * static_cast<double>(m * k) * static_cast<double>(n);
  }
  double best = 0;
  const double start = seconds_now();
  do {
    const double begin = seconds_now();
    for (std::size_t at = 0; at < shapes.size(); ++at) {
      const auto [m, k, n] = shapes[at];
      kernels.multiply_transposed(matrix_in(operands[at].a, dtype, m, k),
                                  matrix_in(operands[at].b, dtype, n, k), {},
                                  matrix_in(operands[at].out, Dtype::f32, m, n));
    }
    best = std::max(best, flops / (seconds_now() - begin));
  } while (seconds_now() - start < seconds);
  return best;
}

}  // namespace weir::benchmark
