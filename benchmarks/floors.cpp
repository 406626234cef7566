#include "benchmarks/floors.hpp"

#include "common/base/machine.hpp"
#include "common/number/buffer.hpp"
#include "worker/kernels/cpu.hpp"

namespace weir::benchmark {

CoreRates measured_rates(double seconds, index_t stream_elements) {
  constexpr int kPasses = 5;
  CoreRates rates{.flops = measured_gemm_peak(seconds, 1)};
  worker::CpuKernels kernels;
  Buffer from(stream_elements), to(stream_elements);
  for (int pass = 0; pass < kPasses; ++pass) {
    const double begin = seconds_now();
    kernels.add(from.span(), to.span());
    rates.raise(
        {.bytes = static_cast<double>(3 * from.size()) * sizeof(float) / (seconds_now() - begin)});
  }
  return rates;
}

}  // namespace weir::benchmark
