#include "worker/kernels/cpu/product_choice.hpp"

#include <algorithm>
#include <array>

#include "worker/kernels/cpu/onednn.hpp"

namespace weir::worker {
namespace {

/// oneDNN makes the products with b [k, n] from these sizes on, OpenBLAS all others.
struct Row {
  Instructions instructions;
  Dtype dtype;
  index_t least_k;
  index_t least_n;
};

// README of worker/, "Products", has the measurements. With AVX2 oneDNN packs nothing.
constexpr std::array kTable = {
    Row{Instructions::avx512, Dtype::f32, 64, 64},
    Row{Instructions::avx512, Dtype::f32, 16, 128},
    Row{Instructions::avx512, Dtype::f32, 128, 16},
    Row{Instructions::avx512_bf16, Dtype::f32, 64, 64},
    Row{Instructions::avx512_bf16, Dtype::f32, 16, 128},
    Row{Instructions::avx512_bf16, Dtype::f32, 128, 16},
    Row{Instructions::avx512_bf16, Dtype::bf16, 1, 1},
    Row{Instructions::amx, Dtype::f32, 64, 64},
    Row{Instructions::amx, Dtype::f32, 16, 128},
    Row{Instructions::amx, Dtype::f32, 128, 16},
    Row{Instructions::amx, Dtype::bf16, 1, 1},
};

}  // namespace

std::string name_of(Instructions instructions) {
  switch (instructions) {
    case Instructions::other:
      return "other";
    case Instructions::avx2:
      return "avx2";
    case Instructions::avx512:
      return "avx512";
    case Instructions::avx512_bf16:
      return "avx512_bf16";
    case Instructions::amx:
      return "amx";
  }
  WEIR_UNREACHABLE();
}

std::string name_of(ProductLibrary library) {
  switch (library) {
    case ProductLibrary::automatic:
      return "auto";
    case ProductLibrary::onednn:
      return "onednn";
    case ProductLibrary::openblas:
      return "openblas";
  }
  WEIR_UNREACHABLE();
}

Instructions machine_instructions() { return OneDnn::instructions(); }

ProductLibrary ProductChoice::library_for(Dtype dtype, index_t k, index_t n) const {
  if (library != ProductLibrary::automatic) return library;
  const Dtype computed = is_native(dtype) ? dtype : Dtype::f32;
  const bool found = std::ranges::any_of(kTable, [&](const Row& row) {
    return row.instructions == instructions && row.dtype == computed && k >= row.least_k &&
           n >= row.least_n;
  });
  return found ? ProductLibrary::onednn : ProductLibrary::openblas;
}

bool ProductChoice::is_native(Dtype dtype) const {
  if (dtype == Dtype::f32) return true;
  return dtype == Dtype::bf16 && library != ProductLibrary::openblas &&
         instructions >= Instructions::avx512_bf16;
}

std::string ProductChoice::describe() const {
  const bool by_onednn = library_for(Dtype::f32, 512, 512) == ProductLibrary::onednn;
  return text(by_onednn ? "oneDNN" : "OpenBLAS", " with ", name_of(instructions));
}

}  // namespace weir::worker
