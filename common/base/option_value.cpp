#include "common/base/option_value.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>

#include "common/base/text.hpp"

namespace weir {
namespace {

/// Overloaded lambdas for std::visit.
template <class... Cases>
struct Match : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Match(Cases...) -> Match<Cases...>;

/// The factor that a suffix stands for: k, M, G, T are powers of 1000, Ki, Mi, Gi, Ti powers of
/// 1024; a size in bytes may have a B behind it. Nothing for any other word.
std::optional<double> factor_of(std::string_view suffix, bool is_bytes) {
  if (is_bytes && suffix.ends_with('B')) suffix.remove_suffix(1);
  static const std::map<std::string_view, double> factors = {
      {"", 1},        {"k", 1e3},     {"M", 1e6},     {"G", 1e9},    {"T", 1e12},
      {"Ki", 0x1p10}, {"Mi", 0x1p20}, {"Gi", 0x1p30}, {"Ti", 0x1p40}};
  const auto found = factors.find(suffix);
  return found == factors.end() ? std::nullopt : std::optional(found->second);
}

/// The text without underscores between two digits, as in `1_000`.
std::string without_underscores(std::string_view text) {
  const auto is_digit = [&](std::size_t at) {
    return at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) != 0;
  };
  std::string result;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool separates = text[at] == '_' && at > 0 && is_digit(at - 1) && is_digit(at + 1);
    if (!separates) result += text[at];
  }
  return result;
}

std::optional<double> parse_number(std::string_view written, bool is_bytes) {
  const std::string text = without_underscores(written);
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  if (result.ec != std::errc()) return std::nullopt;
  const auto factor = factor_of({result.ptr, end}, is_bytes);
  if (!factor) return std::nullopt;
  return number * *factor;
}

/// The whole number that was written; nothing if it is none.
std::optional<index_t> parse_count(std::string_view written, bool is_bytes) {
  const std::string text = without_underscores(written);
  index_t whole = 0;
  const char* const end = text.data() + text.size();
  const auto as_whole = std::from_chars(text.data(), end, whole);
  if (as_whole.ec == std::errc() && as_whole.ptr == end) return whole;
  const auto number = parse_number(text, is_bytes);
  constexpr double kExact = 0x1p53;  // beyond it a double may not be the number that was written
  if (!number || !(std::abs(*number) <= kExact) || *number != std::floor(*number)) {
    return std::nullopt;
  }
  return static_cast<index_t>(*number);
}

std::string bound(const Option& option, double value) {
  if (std::holds_alternative<index_t*>(option.field)) {
    return text(static_cast<index_t>(value));
  }
  return text(value);
}

/// ` 1..4096`, ` >= 1`, ` <= 8` or nothing.
std::string range_of(const Option& option) {
  // A bound that no count or number can reach anyway tells a reader nothing, so it is left out.
  const double limit =
      std::holds_alternative<index_t*>(option.field) ? 0x1p62 : std::numeric_limits<double>::max();
  const bool low = option.range.low > -limit;
  const bool high = option.range.high < limit;
  if (low && high) {
    return text(" ", bound(option, option.range.low), "..", bound(option, option.range.high));
  }
  if (low) return text(" >= ", bound(option, option.range.low));
  if (high) return text(" <= ", bound(option, option.range.high));
  return "";
}

std::string joined(const std::vector<std::string>& words, std::string_view between) {
  std::string result;
  for (const auto& word : words) result += (result.empty() ? "" : std::string(between)) + word;
  return result;
}

}  // namespace

std::string expectation(const Option& option) {
  const std::string unit = option.unit.empty() ? "" : text(" (", option.unit, ")");
  return std::visit(
      Match{[](bool*) -> std::string { return "true or false"; },
            [&](index_t*) { return text("a whole number", range_of(option), unit); },
            [&](double*) { return text("a number", range_of(option), unit); },
            [](std::string*) -> std::string { return "text without control characters"; },
            [](const Choice& choice) { return text("one of ", joined(choice.names, ", ")); }},
      option.field);
}

std::string expectation_after(const Option& option, const std::string& value) {
  const bool is_number = std::holds_alternative<index_t*>(option.field) ||
                         std::holds_alternative<double*>(option.field);
  const bool looks_like_size =
      is_number && value.size() > 1 &&
      std::isdigit(static_cast<unsigned char>(value.front())) != 0 &&
      std::string_view("kKmMgGtTbB").find(value.back()) != std::string_view::npos;
  if (!looks_like_size || parse_number(value, true)) return expectation(option);
  return text(expectation(option), "; 16k is 16,000 and 16Ki is 16,384");
}

bool set_field(const Option& option, const std::string& value) {
  const auto in_range = [&](double number) {
    return option.range.low <= number && number <= option.range.high;  // false for NaN
  };
  return std::visit(
      Match{[&](bool* field) {
              if (value != "true" && value != "false") return false;
              *field = value == "true";
              return true;
            },
            [&](index_t* field) {
              const auto count = parse_count(value, option.unit == "bytes");
              if (!count || !in_range(static_cast<double>(*count))) return false;
              *field = *count;
              return true;
            },
            [&](double* field) {
              const auto number = parse_number(value, option.unit == "bytes");
              if (!number || !in_range(*number)) return false;
              *field = *number;
              return true;
            },
            [&](std::string* field) {
              constexpr std::string_view kWritable = "\n\t\r";  // the others config.ini cannot hold
              const bool writable = std::ranges::all_of(value, [&](char letter) {
                return static_cast<unsigned char>(letter) >= ' ' ||
                       kWritable.find(letter) != std::string_view::npos;
              });
              if (writable) *field = value;
              return writable;
            },
            [&](const Choice& choice) {
              const bool known = std::ranges::find(choice.names, value) != choice.names.end();
              if (known) choice.set(value);
              return known;
            }},
      option.field);
}

std::string value_of(const Option& option) {
  return std::visit(Match{[](const bool* field) { return text(*field); },
                          [](const index_t* field) { return text(*field); },
                          [](const double* field) { return text(*field); },
                          [](const std::string* field) { return *field; },
                          [](const Choice& choice) { return choice.get(); }},
                    option.field);
}

}  // namespace weir
