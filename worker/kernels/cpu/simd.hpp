#pragma once

// Which instruction sets the kernels are compiled for; include before any header of Highway.
// SSSE3 and AVX3_DL bring nothing for floats beyond their neighbours and cost compile time; the
// scalable vectors of SVE and RISC-V cannot stand in arrays, which the kernels keep them in.
// Sanitized, the narrowest and the widest vectors stand for those between.
#ifdef WEIR_SANITIZE
#define WEIR_DISABLED_BETWEEN HWY_AVX2
#else
#define WEIR_DISABLED_BETWEEN 0
#endif
#define HWY_DISABLED_TARGETS                                                             \
  (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | \
   WEIR_DISABLED_BETWEEN)
