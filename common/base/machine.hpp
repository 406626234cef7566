#pragma once

#include <string>

#include "common/base/index.hpp"

namespace weir {

/// What the machine and the process on it are, and the clock. A program under a simulator replaces
/// these (machine.cpp, blas.cpp) and nothing else.

/// Of a clock that never goes back; only differences mean anything.
double seconds_now();

/// At least this long; longer by the timer slack of the thread (50 us).
void sleep_microseconds(index_t microseconds);

/// The most memory the process has held at once since it started its program.
index_t peak_resident_bytes();

std::string cpu_name();  ///< as in /proc/cpuinfo; "unknown" if that does not say
std::string host_name();
int core_count();  ///< on which this process may run, at least 1

/// Threads that one call of OpenBLAS from now on may use.
void set_blas_threads(int threads);

/// The kernels OpenBLAS has chosen: `SkylakeX`, `Haswell`, `Zen` ...
std::string blas_core();

/// OpenBLAS 0.3.21 does not know recent AMD cores and then takes half as fast AVX2 kernels on a CPU
/// that has AVX-512. It reads OPENBLAS_CORETYPE when it is loaded, so in that case this sets the
/// variable to SkylakeX and starts the program again in the same process, once. What the user has
/// put into the variable always counts. Call it first of all in main, before MPI_Init; argc and
/// argv as main got them.
void ensure_blas_core(int argc, char** argv);

/// FLOP/s of sgemm on so many threads, 768 x 768 x 768: the best call of about `seconds` seconds.
double measured_gemm_peak(double seconds, int threads);

}  // namespace weir
