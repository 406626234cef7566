#pragma once

#include <algorithm>

#include "common/base/error.hpp"
#include "common/number/memory.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

/// Hands out successive pieces of a run of memory. Without memory it only counts: so one list of
/// what a layer keeps serves both the code that allocates it and the code that plans it.
class Pieces {
 public:
  Pieces() = default;
  explicit Pieces(const Memory& memory) : memory_(&memory) {}

  Matrix matrix(index_t rows, index_t columns, Dtype dtype = Dtype::f32) {
    return {vector(rows * columns, dtype), rows, columns};
  }
  Vector vector(index_t size, Dtype dtype = Dtype::f32) {
    constexpr index_t kLine = 64;
    const index_t begin = bytes_;
    bytes_ += round_up(size * bytes_of(dtype), kLine);
    if (memory_ == nullptr) return {nullptr, dtype, MemoryKind::none, size};
    WEIR_ASSERT(bytes_ <= memory_->bytes());
    if (memory_->data() == nullptr) return {nullptr, dtype, memory_->kind(), size};
    return {memory_->data() + begin, dtype, memory_->kind(), size};
  }
  /// Bytes handed out so far, each piece rounded up to whole cache lines.
  index_t bytes() const { return bytes_; }

 private:
  const Memory* memory_ = nullptr;
  index_t bytes_ = 0;
};

/// Memory for everything that `T::take(pieces, shape…)` asks for, and the T that looks at it.
template <class T>
struct Carved : T {
  template <class... Shape>
  explicit Carved(const Shape&... shape) : Carved(MemoryKind::host, shape...) {}
  template <class... Shape>
  explicit Carved(MemoryKind kind, const Shape&... shape) : memory(bytes(shape...), 1, kind) {
    Pieces pieces(memory);
    T::take(pieces, shape...);
  }
  /// Bytes that it would own.
  template <class... Shape>
  static index_t bytes(const Shape&... shape) {
    Pieces pieces;
    T().take(pieces, shape...);
    return pieces.bytes();
  }

  Memory memory;
};

}  // namespace weir::worker
