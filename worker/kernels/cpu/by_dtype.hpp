#pragma once

#include "common/base/error.hpp"
#include "common/number/dtype.hpp"

namespace weir::worker {

/// Calls function.operator()<T>() for the C++ type T of the elements: how a kernel looks at the
/// dtype of its operands, once a call.
template <class Function>
void by_dtype(Dtype dtype, const Function& function) {
  switch (dtype) {
    case Dtype::f32:
      return function.template operator()<float>();
    case Dtype::bf16:
      return function.template operator()<Bf16>();
    case Dtype::fp16:
      return function.template operator()<Fp16>();
    case Dtype::i32:  // whole numbers are read, never computed with
      break;
  }
  WEIR_UNREACHABLE();
}

/// The same for an operand that is f32 whatever T is, or of type T like the others.
template <class T, class Function>
void by_dtype_or_f32(Dtype dtype, const Function& function) {
  if (dtype == Dtype::f32) return function.template operator()<float>();
  WEIR_ASSERT(dtype == kDtypeOf<T>);
  return function.template operator()<T>();
}

}  // namespace weir::worker
