#pragma once

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "common/number/tensor.hpp"

namespace weir {

/// Owns a run of zero bytes. From 2 MiB on it lies on huge pages (aligned to 2 MiB, MADV_HUGEPAGE)
/// and is faulted in at once: the first messages and steps must not pay for it, and transfers out
/// of 4 KiB pages are half as fast. Smaller ones are aligned to 64 bytes. Throws Error, saying how
/// much was asked for, if there is not enough memory.
class Memory {
 public:
  Memory() = default;
  /// A memory of kind none only counts and has no address.
  Memory(index_t elements, index_t element_bytes, MemoryKind kind = MemoryKind::host);
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        kind_(other.kind_) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(kind_, other.kind_);
    return *this;
  }
  ~Memory();

  std::byte* data() const { return data_; }
  index_t bytes() const { return bytes_; }
  MemoryKind kind() const { return kind_; }
  /// All of the memory, as elements of this dtype.
  Vector elements(Dtype dtype) const { return {data_, dtype, kind_, bytes_ / bytes_of(dtype)}; }
  /// How many of them lie on huge pages: the kernel may refuse. 0 if it does not say.
  index_t huge_bytes() const;

 private:
  std::byte* data_ = nullptr;
  index_t bytes_ = 0;
  MemoryKind kind_ = MemoryKind::host;
};

/// Owns `size` elements, all zero at first, in a Memory. Moves, never copies; moving keeps the
/// address. Views and spans of it are valid as long as it lives.
template <class T>
class BufferOf {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  BufferOf() = default;
  explicit BufferOf(index_t size) : memory_(size, index_t{sizeof(T)}) {}

  T* data() { return reinterpret_cast<T*>(memory_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.data()); }
  index_t huge_bytes() const { return memory_.huge_bytes(); }
  index_t size() const { return memory_.bytes() / index_t{sizeof(T)}; }
  std::span<T> span() { return {data(), static_cast<std::size_t>(size())}; }
  std::span<const T> span() const { return {data(), static_cast<std::size_t>(size())}; }
  T& operator[](index_t index) { return data()[index]; }
  const T& operator[](index_t index) const { return data()[index]; }

 private:
  Memory memory_;
};

using Buffer = BufferOf<float>;

}  // namespace weir
