#include "common/base/text.hpp"

#include <charconv>

namespace weir::detail {

template <class T>
static std::string shortest_of(T value) {
  char digits[64];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return std::string(digits, end);
}

std::string shortest(double value) { return shortest_of(value); }
std::string shortest(float value) { return shortest_of(value); }

}  // namespace weir::detail
