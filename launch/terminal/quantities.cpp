#include "launch/terminal/quantities.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace weir {
namespace {

// Three digits in all: 1.50, 11.8, 512.
std::string three_digits(double value) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}", value, decimals);
}

struct Scaled {
  double value;
  const char* prefix;
};

Scaled scaled_by_1000(double value) {
  constexpr std::array<const char*, 6> kPrefixes = {"", "k", "M", "G", "T", "P"};
  std::size_t thousands = 0;
  while (std::abs(value) >= 999.5 && thousands + 1 < kPrefixes.size()) {
    value /= 1000;
    ++thousands;
  }
  return {value, kPrefixes[thousands]};
}

}  // namespace

std::string fixed(double value, int digits) { return fmt::format("{:.{}f}", value, digits); }

std::string percent(double share) {
  const double value = 100 * share;
  const bool small = value > 0 && value < 0.95;
  return fmt::format("{:.{}f} %", value, small ? 1 : 0);
}

std::string grouped(index_t value) {
  std::string digits = std::to_string(value);
  const index_t first = value < 0 ? 1 : 0;
  for (auto place = std::ssize(digits) - 3; place > first; place -= 3) {
    digits.insert(place, 1, ',');
  }
  return digits;
}

std::string short_count(double value) {
  const Scaled scaled = scaled_by_1000(value);
  if (scaled.prefix[0] == '\0' && value == std::floor(value)) return fmt::format("{:.0f}", value);
  return three_digits(scaled.value) + scaled.prefix;
}

std::string power_text(double power_of_two) {
  return fmt::format("2^{}", std::ilogb(power_of_two));
}

std::string with_prefix(double value, const char* unit) {
  const Scaled scaled = scaled_by_1000(value);
  return fmt::format("{} {}{}", three_digits(scaled.value), scaled.prefix, unit);
}

std::string bytes_text(index_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  return fmt::format("{} {}", three_digits(value), kUnits[unit]);
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<index_t>(std::llround(seconds));
  return fmt::format("{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string seconds_text(double seconds) {
  return seconds < 59.95 ? three_digits(seconds) + " s" : clock_text(seconds);
}

std::string or_unknown(double value, std::string words) {
  return std::isnan(value) ? "n/a" : words;
}

}  // namespace weir
