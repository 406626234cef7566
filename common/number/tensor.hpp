#pragma once

#include <cstddef>
#include <ranges>
#include <span>
#include <type_traits>

#include "common/base/error.hpp"
#include "common/number/dtype.hpp"
#include "common/number/view.hpp"

namespace weir {

/// Where memory is, and so which code may touch its contents.
enum class MemoryKind {
  host,
  none,  ///< sizes without memory: what simulated kernels work on
};

template <class T, class Byte>
using SameConst = std::conditional_t<std::is_const_v<Byte>, const T, T>;

/// A type-erased look at a run of elements that it does not own: bytes, dtype and kind of memory,
/// but no access to elements. Copying it copies the look. What flows between kernels, layers,
/// units, stages, groups and arenas is this or a MatrixOf; kernels and tests get at the elements by
/// as<T>().
template <class Byte>
class VectorOf {
 public:
  VectorOf() = default;
  VectorOf(Byte* data, Dtype dtype, MemoryKind kind, index_t size)
      : data_(data), size_(size), dtype_(dtype), kind_(kind) {}
  /// Elements of the host with a type: a span, a std::vector.
  template <class Range>
  requires std::ranges::contiguous_range<Range> &&
      (std::ranges::borrowed_range<Range> ||
       std::is_const_v<Byte>)&&kHasDtype<std::ranges::range_value_t<Range>> &&
      (std::is_const_v<Byte> ||
       !std::is_const_v<std::remove_reference_t<std::ranges::range_reference_t<Range>>>)
          VectorOf(Range&& values)
      : data_(reinterpret_cast<Byte*>(std::ranges::data(values))),
  size_(static_cast<index_t>(std::ranges::size(values))),
  dtype_(kDtypeOf<std::ranges::range_value_t<Range>>) {}
  /// A look that may write is also a look that may only read.
  template <class Other>
  requires std::is_same_v<const Other, Byte> VectorOf(const VectorOf<Other>& other)
      : VectorOf(other.bytes().data(), other.dtype(), other.kind(), other.size()) {}

  Dtype dtype() const { return dtype_; }
  MemoryKind kind() const { return kind_; }
  index_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<Byte> bytes() const {
    return {data_, static_cast<std::size_t>(size_ * bytes_of(dtype_))};
  }

  /// `count` elements from `begin` on.
  VectorOf part(index_t begin, index_t count) const {
    WEIR_ASSERT(begin >= 0 && count >= 0 && begin + count <= size_);
    // No arithmetic on null: memory that is only counted has no address.
    Byte* const data = data_ == nullptr ? nullptr : data_ + begin * bytes_of(dtype_);
    return {data, dtype_, kind_, count};
  }
  VectorOf first(index_t count) const { return part(0, count); }
  VectorOf last(index_t count) const { return part(size_ - count, count); }

 private:
  Byte* data_ = nullptr;
  index_t size_ = 0;
  Dtype dtype_ = Dtype::f32;
  MemoryKind kind_ = MemoryKind::host;
};

/// The same for [rows, columns], row-major and dense.
template <class Byte>
class MatrixOf {
 public:
  MatrixOf() = default;
  /// The first rows * columns elements of a vector.
  MatrixOf(VectorOf<Byte> elements, index_t rows, index_t columns)
      : elements_(elements.first(rows * columns)), rows_(rows), columns_(columns) {}
  /// Elements of the host with a type.
  template <class T>
  requires kHasDtype<std::remove_const_t<T>> &&
      (std::is_const_v<Byte> || !std::is_const_v<T>)MatrixOf(const View<T, 2>& view)
      : MatrixOf(VectorOf<Byte>(view.span()), view.extent(0), view.extent(1)) {}
  template <class Other>
  requires std::is_same_v<const Other, Byte> MatrixOf(const MatrixOf<Other>& other)
      : MatrixOf(other.flat(), other.extent(0), other.extent(1)) {}

  Dtype dtype() const { return elements_.dtype(); }
  MemoryKind kind() const { return elements_.kind(); }
  /// Axis 0: rows; axis 1: columns.
  index_t extent(int axis) const { return axis == 0 ? rows_ : columns_; }
  index_t size() const { return elements_.size(); }
  bool has_shape_of(const MatrixOf<const std::byte>& other) const {
    return rows_ == other.extent(0) && columns_ == other.extent(1);
  }

  /// All elements, row after row.
  VectorOf<Byte> flat() const { return elements_; }
  /// `count` rows from `begin` on.
  MatrixOf rows(index_t begin, index_t count) const {
    return {elements_.part(begin * columns_, count * columns_), count, columns_};
  }
  /// One row.
  VectorOf<Byte> operator[](index_t row) const { return elements_.part(row * columns_, columns_); }

 private:
  VectorOf<Byte> elements_;
  index_t rows_ = 0;
  index_t columns_ = 0;
};

using Vector = VectorOf<std::byte>;
using ConstVector = VectorOf<const std::byte>;
using Matrix = MatrixOf<std::byte>;
using ConstMatrix = MatrixOf<const std::byte>;

/// The elements with their type. Asserts that they are T and lie in the host's memory. Only kernels
/// and tests call it; whatever passes a tensor on between them does not look inside.
template <class T, class Byte>
std::span<SameConst<T, Byte>> as(const VectorOf<Byte>& vector) {
  WEIR_ASSERT(vector.dtype() == kDtypeOf<T> && vector.kind() == MemoryKind::host);
  return {reinterpret_cast<SameConst<T, Byte>*>(vector.bytes().data()),
          static_cast<std::size_t>(vector.size())};
}
template <class T, class Byte>
View<SameConst<T, Byte>, 2> as(const MatrixOf<Byte>& matrix) {
  return {as<T>(matrix.flat()).data(), {matrix.extent(0), matrix.extent(1)}};
}

}  // namespace weir
