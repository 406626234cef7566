#include "worker/kernels/cpu/blas.hpp"

#include <cblas.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "common/base/machine.hpp"

namespace weir {
namespace {

bool cpu_has_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}

bool is_avx512_core(std::string name) {
  std::ranges::transform(name, name.begin(), [](unsigned char letter) {
    return static_cast<char>(std::tolower(letter));
  });
  constexpr std::array<std::string_view, 3> kNames = {"skylakex", "cooperlake", "sapphirerapids"};
  return std::ranges::find(kNames, name) != kNames.end();
}

}  // namespace

void set_blas_threads(int threads) { openblas_set_num_threads(threads); }

std::string blas_core() { return openblas_get_corename(); }

void ensure_blas_core(int argc, char** argv) {
  constexpr const char* kVariable = "OPENBLAS_CORETYPE";
  // The user has set it, or this function has before it started the program again: either way
  // nothing is left to do.
  if (std::getenv(kVariable) != nullptr) return;
  if (!cpu_has_avx512() || is_avx512_core(blas_core())) return;
  setenv(kVariable, "SkylakeX", 1);
  std::vector<char*> arguments(argv, argv + argc);
  arguments.push_back(nullptr);
  execv("/proc/self/exe", arguments.data());
  // The program could not be started again: it is slower, but right.
  unsetenv(kVariable);
}

double measured_gemm_peak(double seconds, int threads) {
  constexpr int kSize = 768;
  constexpr double kFlops = 2.0 * kSize * kSize * kSize;
  const std::vector<float> left(std::size_t{kSize} * kSize, 0.5F);
  const std::vector<float> right(std::size_t{kSize} * kSize, 0.25F);
  std::vector<float> out(std::size_t{kSize} * kSize);
  const int threads_before = openblas_get_num_threads();
  openblas_set_num_threads(threads);
  double best = 0;
  const double start = seconds_now();
  do {
    const double begin = seconds_now();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, kSize, kSize, kSize, 1, left.data(),
                kSize, right.data(), kSize, 0, out.data(), kSize);
    best = std::max(best, kFlops / (seconds_now() - begin));
  } while (seconds_now() - start < seconds);
  openblas_set_num_threads(threads_before);
  return best;
}

}  // namespace weir
