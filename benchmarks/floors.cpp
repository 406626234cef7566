#include "benchmarks/floors.hpp"

#include <algorithm>

#include "common/base/machine.hpp"
#include "common/number/memory.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/kernels/cpu/cpu_kernels.hpp"

namespace weir::benchmark {

using worker::ProductChoice;
using worker::ProductLibrary;

ProductRates measured_rates(Dtype dtype, const std::vector<ProductShape>& shapes, double seconds) {
  if (!ProductChoice().is_native(dtype)) dtype = Dtype::f32;
  ProductRates rates;
  if (dtype == Dtype::f32) rates.large = measured_gemm_peak(seconds, 1);
  for (const ProductLibrary library : {ProductLibrary::openblas, ProductLibrary::onednn}) {
    const ProductChoice choice = {.library = library};
    if (library == ProductLibrary::onednn && !onednn_packs(choice.instructions)) continue;
    if (!choice.is_native(dtype)) continue;
    const auto rate_of = [&](const std::vector<ProductShape>& some) {
      return measured_product_rate(some, library, dtype, seconds);
    };
    rates.large = std::max(rates.large, rate_of({{768, 768, 768}}));
    rates.own = std::max(rates.own, rate_of(shapes));
  }
  return rates;
}

double measured_stream_rate(index_t stream_elements) {
  constexpr int kPasses = 5;
  worker::CpuKernels kernels;
  Buffer from(stream_elements), to(stream_elements);
  const double bytes = 3 * static_cast<double>(stream_elements) * sizeof(float);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const double begin = seconds_now();
    kernels.add(from.span(), to.span());
    best = std::max(best, bytes / (seconds_now() - begin));
  }
  return best;
}

}  // namespace weir::benchmark
