#pragma once

#include <algorithm>

#include "common/base/error.hpp"
#include "common/number/buffer.hpp"
#include "worker/kernels/kernels.hpp"

namespace weir::worker {

/// Hands out successive pieces of a run of memory. Without memory it only counts: so what a layer
/// keeps is listed in one place, for those who allocate it and for those who plan it.
class Pieces {
 public:
  Pieces() = default;
  explicit Pieces(Buffer& memory) : memory_(memory.span()) {}

  Matrix matrix(index_t rows, index_t columns) { return {take(rows * columns), {rows, columns}}; }
  Vector vector(index_t size) {
    float* data = take(size);
    return data == nullptr ? Vector() : Vector(data, static_cast<std::size_t>(size));
  }
  /// Elements handed out so far, each piece rounded up to whole cache lines.
  index_t elements() const { return elements_; }

 private:
  float* take(index_t size) {
    constexpr index_t kLine = 16;
    float* data = memory_.empty() ? nullptr : memory_.data() + elements_;
    elements_ += (size + kLine - 1) / kLine * kLine;
    WEIR_ASSERT(memory_.empty() || elements_ <= static_cast<index_t>(memory_.size()));
    return data;
  }

  std::span<float> memory_;
  index_t elements_ = 0;
};

/// Memory for everything that `T::take(pieces, shape…)` asks for, and the T that looks at it.
template <class T>
struct Carved : T {
  template <class... Shape>
  explicit Carved(const Shape&... shape) : memory(count(shape...)) {
    Pieces pieces(memory);
    T::take(pieces, shape...);
  }
  /// Elements that it would own.
  template <class... Shape>
  static index_t count(const Shape&... shape) {
    Pieces pieces;
    T().take(pieces, shape...);
    return pieces.elements();
  }

  Buffer memory;
};

}  // namespace weir::worker
