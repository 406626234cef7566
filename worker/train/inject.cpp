#include "worker/train/inject.hpp"

#include <algorithm>
#include <charconv>

#include "common/base/error.hpp"
#include "common/number/random.hpp"

namespace weir::worker {
namespace {

/// The number at the beginning of `rest`, which goes on after it and `suffix`.
template <class Number>
bool take(std::string_view& rest, Number& number, std::string_view suffix) {
  const auto [end, code] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (code != std::errc()) return false;
  rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  if (!rest.starts_with(suffix)) return false;
  rest.remove_prefix(suffix.size());
  return true;
}

bool parse_item(std::string_view rest, Injection& injection) {
  const auto begins = [&](std::string_view word) {
    if (!rest.starts_with(word)) return false;
    rest.remove_prefix(word.size());
    return true;
  };
  if (begins("sleep=")) {
    double milliseconds = 0;
    const bool good = take(rest, milliseconds, "ms") && rest.empty();
    injection.sleep_seconds = milliseconds / 1000;
    return good && milliseconds >= 0 && milliseconds <= 1e6;
  }
  double percent = 100;
  if (begins("bad=")) {
    const bool good = take(rest, percent, "%:") && take(rest, injection.bad_factor, "x");
    injection.bad_share = percent / 100;
    return good && rest.empty() && percent >= 0 && percent <= 100 && injection.bad_factor >= 1;
  }
  if (!begins("slow=")) return false;
  index_t replica = 0;
  if (!begins("any:")) {
    if (!take(rest, replica, ":") || replica < 0) return false;
    injection.slow_replica = replica;
  }
  if (!take(rest, injection.factor, "x")) return false;
  if (begins(":") && !take(rest, percent, "%")) return false;
  injection.share = percent / 100;
  return rest.empty() && injection.factor >= 1 && injection.factor <= 1000 && percent >= 0 &&
         percent <= 100;
}

}  // namespace

Injection parse_injection(const std::string& words) {
  Injection injection;
  std::string_view rest = words;
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    if (!parse_item(rest.substr(0, comma), injection)) {
      throw UsageError(text(
          "--inject ", words,
          " is not understood; expected slow=REPLICA:FACTORx, as slow=1:3x, or "
          "slow=1:5x:20% for a fifth of its steps, slow=any:5x:5%, sleep=50ms, or bad=1%:30x"));
    }
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return injection;
}

double injected_seconds(const Injection& injection, index_t replica, index_t step,
                        std::uint64_t seed, double seconds) {
  const double drawn =
      uniform(seed, stream_of(text("inject ", replica)), static_cast<std::uint64_t>(step));
  const bool slow = injection.slow_replica.value_or(replica) == replica && drawn < injection.share;
  const double factor = slow ? injection.factor : 1;
  return factor * injection.sleep_seconds + (factor - 1) * seconds;
}

bool is_bad_step(const Injection& injection, index_t step, std::uint64_t seed) {
  return step >= kFirstBadStep && uniform(seed, stream_of("inject bad"),
                                          static_cast<std::uint64_t>(step)) < injection.bad_share;
}

}  // namespace weir::worker
