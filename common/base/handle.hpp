#pragma once

#include <utility>

namespace weir {

/// Owns one raw handle of a C library. Traits give `Raw`, `none()` and `release(Raw)`. Moves, never
/// copies, releases itself; as large as the raw handle.
template <class Traits>
class Handle {
 public:
  using Raw = typename Traits::Raw;
  Handle() = default;
  explicit Handle(Raw raw) : raw_(raw) {}
  Handle(Handle&& other) noexcept : raw_(std::exchange(other.raw_, Traits::none())) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~Handle() {
    if (raw_ != Traits::none()) Traits::release(raw_);
  }
  Raw get() const { return raw_; }
  /// Returns the handle, which nobody owns from then on.
  Raw release() { return std::exchange(raw_, Traits::none()); }
  explicit operator bool() const { return raw_ != Traits::none(); }

 private:
  Raw raw_ = Traits::none();
};

}  // namespace weir
