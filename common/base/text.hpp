#pragma once

#include <string>
#include <string_view>
#include <type_traits>

namespace weir {

/// All arguments, one after the other, as one string: text("bucket ", 3, ": ", 1e-7).
/// Floating-point numbers come out in their shortest form that reads back to the same value.
template <class... Parts>
std::string text(const Parts&... parts);

namespace detail {
std::string shortest(double value);
std::string shortest(float value);
inline void append(std::string& out, std::string_view part) { out += part; }
inline void append(std::string& out, char part) { out += part; }
inline void append(std::string& out, double part) { out += shortest(part); }
inline void append(std::string& out, float part) { out += shortest(part); }
template <class T>
requires std::is_integral_v<T>  // a plain bool parameter would take string literals, too
void append(std::string& out, T part) {
  if constexpr (std::is_same_v<T, bool>) {
    out += part ? "true" : "false";
  } else {
    out += std::to_string(part);
  }
}
}  // namespace detail

template <class... Parts>
std::string text(const Parts&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

}  // namespace weir
