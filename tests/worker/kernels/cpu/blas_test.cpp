#include "worker/kernels/cpu/blas.hpp"

#include <cblas.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>

using namespace weir;

namespace {

/// What a new run of this program, with `environment` changed, finds as the core of OpenBLAS: its
/// main calls ensure_blas_core and the last case of this file prints.
std::string core_of_new_run(const std::string& environment) {
  std::array<char, 4096> program{};
  REQUIRE(readlink("/proc/self/exe", program.data(), program.size() - 1) > 0);
  const std::string command = "env " + environment + " '" + program.data() +
                              "' --no-skip --test-case='prints the core of OpenBLAS'";
  FILE* const pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string core;
  std::array<char, 1024> line{};
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) {
    const std::string text = line.data();
    if (text.starts_with("core: ")) core = text.substr(6, text.size() - 7);
  }
  CHECK(pclose(pipe) == 0);
  return core;
}

}  // namespace

TEST_CASE("the measured peak is that of plausible cores and leaves the threads as they were") {
  set_blas_threads(1);
  const double flops = measured_gemm_peak(0.05, 2);
  CHECK(flops > 1e9);
  CHECK(flops < 2e12);
  CHECK(openblas_get_num_threads() == 1);
}

TEST_CASE(
    "OpenBLAS runs AVX-512 kernels where the processor has them, unless the user chose others") {
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  const std::string core = core_of_new_run("-u OPENBLAS_CORETYPE");
  CHECK((core == "SkylakeX" || core == "Cooperlake" || core == "SapphireRapids") == avx512);
  CHECK(core_of_new_run("OPENBLAS_CORETYPE=Prescott") == "Prescott");
}

TEST_CASE("prints the core of OpenBLAS" * doctest::skip()) {
  std::printf("core: %s\n", blas_core().c_str());
}
