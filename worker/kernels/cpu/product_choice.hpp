#pragma once

#include <string>

#include "common/number/dtype.hpp"

namespace weir::worker {

/// What a processor has for matrix products, weakest first. `avx512_bf16` and `amx` multiply bf16
/// directly.
enum class Instructions { other, avx2, avx512, avx512_bf16, amx };
std::string name_of(Instructions instructions);
/// Those of this machine, as oneDNN finds them (ONEDNN_MAX_CPU_ISA restricts it).
Instructions machine_instructions();

/// Who makes products with packed weights.
enum class ProductLibrary {
  automatic,  ///< what the table in product_choice.cpp says
  onednn,     ///< only where onednn_packs
  openblas,
};
std::string name_of(ProductLibrary library);

/// Whether oneDNN keeps weights packed, and gives a row the same bits in every number of rows.
inline bool onednn_packs(Instructions instructions) { return instructions >= Instructions::avx512; }

/// How a worker makes its products. All workers of a job have the same choice.
struct ProductChoice {
  ProductLibrary library = ProductLibrary::automatic;  ///< --products
  Instructions instructions = machine_instructions();

  /// onednn or openblas, for products with weights b [k, n] of this dtype. Neither the number of
  /// rows nor a measurement at start has a say, so a run has the same bits on every machine of a
  /// kind, and whatever the lengths of its micro-batches.
  ProductLibrary library_for(Dtype dtype, index_t k, index_t n) const;
  /// Whether products of this dtype are computed in it. The others are computed in f32 after
  /// conversion: the same numbers, and not faster than f32.
  bool is_native(Dtype dtype) const;
  /// For logs and records, what makes most of the products in f32: `oneDNN with avx512_bf16`.
  std::string describe() const;
};

}  // namespace weir::worker
