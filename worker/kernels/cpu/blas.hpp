#pragma once

#include <string>

namespace weir {

/// Sets how many threads a call of OpenBLAS may use from now on.
void set_blas_threads(int threads);

/// The kernels that OpenBLAS has chosen: `SkylakeX`, `Haswell`, `Zen` ...
std::string blas_core();

/// OpenBLAS 0.3.21 does not know recent AMD cores and then takes half as fast AVX2 kernels on a CPU
/// that has AVX-512. It reads OPENBLAS_CORETYPE when it is loaded, so in that case this sets the
/// variable to SkylakeX and starts the program again in the same process, once. A value that the
/// user has put into the variable always counts. Call it first of all in main, before MPI_Init;
/// argc and argv as main got them.
void ensure_blas_core(int argc, char** argv);

/// Enough to report the rate with a command: some three products on one core.
inline constexpr double kGemmPeakSeconds = 0.03;

/// FLOP/s of sgemm on `threads` threads, 768 x 768 x 768: the best call of about `seconds` seconds.
double measured_gemm_peak(double seconds, int threads);

}  // namespace weir
