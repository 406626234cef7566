#include "common/base/spelling.hpp"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <optional>
#include <string_view>

#include "common/base/text.hpp"

namespace weir {
namespace {

std::string lower(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    result += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  return result;
}

/// Least number of letters to insert, delete or replace (Levenshtein).
std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < to.size(); ++j) {
      const std::size_t replaced = diagonal + (from[i] == to[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

/// The known name that `name` was probably meant to be: the beginning or the last part of one, or a
/// few letters away.
std::optional<std::string> nearest(const std::string& name, const std::vector<std::string>& known) {
  std::optional<std::string> best;
  std::size_t best_distance = 2 + name.size() / 4;
  for (const auto& candidate : known) {
    const std::string from = lower(name);
    const std::string to = lower(candidate);
    std::size_t distance = edit_distance(from, to);
    const bool is_part = to.starts_with(from) || to.ends_with("." + from);
    if (from.size() >= 2 && is_part) distance = std::min<std::size_t>(distance, 1);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace

std::string did_you_mean(const std::string& name, const std::vector<std::string>& known,
                         const std::string& prefix) {
  const auto guess = nearest(name, known);
  return guess ? text(" (did you mean ", prefix, *guess, "?)") : "";
}

}  // namespace weir
