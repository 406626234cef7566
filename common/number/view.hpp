#pragma once

#include <array>
#include <cassert>
#include <span>
#include <type_traits>

#include "common/base/index.hpp"

namespace weir {

/// A row-major, dense look at memory that it does not own. Copying it copies the look. Indices are
/// checked by assert in Debug builds, not in Release.
template <class T, int Rank>
class View {
 public:
  View() = default;
  View(T* data, std::array<index_t, Rank> extents) : data_(data), extents_(extents) {}
  /// A look that may write is also a look that may only read.
  template <class U>
  requires std::is_same_v<const U, T> View(const View<U, Rank>& other)
      : data_(other.data()), extents_(other.extents()) {}

  T* data() const { return data_; }
  const std::array<index_t, Rank>& extents() const { return extents_; }
  index_t extent(int axis) const { return extents_[axis]; }
  index_t size() const {
    index_t product = 1;
    for (index_t extent : extents_) product *= extent;
    return product;
  }
  std::span<T> span() const { return {data_, static_cast<std::size_t>(size())}; }

  template <class... Index>
  requires(sizeof...(Index) == Rank) T& operator()(Index... index) const {
    const std::array<index_t, Rank> at{static_cast<index_t>(index)...};
    index_t offset = 0;
    for (std::size_t axis = 0; axis < Rank; ++axis) {
      assert(at[axis] >= 0 && at[axis] < extents_[axis]);
      offset = offset * extents_[axis] + at[axis];
    }
    return data_[offset];
  }

  /// The sub-view at `index` of the first axis.
  View<T, Rank - 1> operator[](index_t index) const requires(Rank > 1) {
    assert(index >= 0 && index < extents_[0]);
    std::array<index_t, Rank - 1> rest;
    index_t stride = 1;
    for (std::size_t axis = 1; axis < Rank; ++axis) {
      rest[axis - 1] = extents_[axis];
      stride *= extents_[axis];
    }
    return {data_ + index * stride, rest};
  }

  /// `count` entries of the first axis from `begin` on.
  View rows(index_t begin, index_t count) const {
    assert(begin >= 0 && count >= 0 && begin + count <= extents_[0]);
    index_t stride = 1;
    for (std::size_t axis = 1; axis < Rank; ++axis) stride *= extents_[axis];
    View part = *this;
    part.data_ += begin * stride;
    part.extents_[0] = count;
    return part;
  }

 private:
  T* data_ = nullptr;
  std::array<index_t, Rank> extents_{};
};

}  // namespace weir
