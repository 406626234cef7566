#include "common/base/spelling.hpp"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <optional>
#include <string_view>

#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir {
namespace {

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

/// As much of a name is compared: the time grows with it, and no option is as long.
constexpr std::size_t kLettersMax = 200;

struct Candidate {
  std::string name;
  std::size_t distance;
};

/// The known name with the least distance. The beginning of a name, and its last part, count as one
/// letter away.
std::optional<Candidate> nearest(const std::string& name, const std::vector<std::string>& known) {
  const std::string from = canonical_name(std::string_view(name).substr(0, kLettersMax));
  std::optional<Candidate> best;
  for (const auto& candidate : known) {
    const std::string to = canonical_name(candidate);
    std::size_t distance = edit_distance(from, to);
    const bool is_part = to.starts_with(from) || to.ends_with("." + from);
    if (from.size() >= 2 && is_part) distance = std::min<std::size_t>(distance, 1);
    if (!best || distance < best->distance) best = {candidate, distance};
  }
  return best;
}

}  // namespace

std::string canonical_name(std::string_view name) {
  std::string result;
  for (const char letter : name) {
    const bool separates = letter == '-' || letter == '_';
    result += separates ? '.' : static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  return result;
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& known) {
  WEIR_ASSERT(!known.empty());
  return nearest(name, known)->name;
}

std::string did_you_mean(const std::string& name, const std::vector<std::string>& known,
                         const std::string& prefix) {
  const auto guess = nearest(name, known);
  const std::size_t far = 2 + std::min(name.size(), kLettersMax) / 4;
  if (!guess || guess->distance >= far) return "";
  return text(" (did you mean ", prefix, guess->name, "?)");
}

}  // namespace weir
