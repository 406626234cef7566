#include "benchmarks/floors.hpp"

#include <algorithm>

#include "common/base/machine.hpp"
#include "common/number/memory.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::benchmark {

CoreRates measured_rates(double seconds, index_t stream_elements) {
  constexpr int kPasses = 5;
  CoreRates rates = {measured_gemm_peak(seconds, 1), 0};
  worker::CpuKernels kernels;
  Buffer from(stream_elements), to(stream_elements);
  const double bytes = 3 * static_cast<double>(stream_elements) * sizeof(float);
  for (int pass = 0; pass < kPasses; ++pass) {
    const double begin = seconds_now();
    kernels.add(from.span(), to.span());
    rates.bytes = std::max(rates.bytes, bytes / (seconds_now() - begin));
  }
  return rates;
}

}  // namespace weir::benchmark
