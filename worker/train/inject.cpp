#include "worker/train/inject.hpp"

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

}  // namespace

std::optional<SlowReplica> parse_injection(const std::string& words) {
  if (words.empty()) return std::nullopt;
  SlowReplica slow;
  double percent = 100;
  std::string_view rest = words;
  constexpr std::string_view kBegin = "slow=";
  bool good = rest.starts_with(kBegin);
  if (good) rest.remove_prefix(kBegin.size());
  good = good && take(rest, slow.replica, ":") && take(rest, slow.factor, "x");
  if (good && rest.starts_with(":")) {
    rest.remove_prefix(1);
    good = take(rest, percent, "%");
  }
  good = good && rest.empty() && slow.replica >= 0 && slow.factor >= 1 && slow.factor <= 1000 &&
         percent >= 0 && percent <= 100;
  if (!good) {
    throw UsageError(text("--inject ", words,
                          " is not understood; expected slow=REPLICA:FACTORx, as slow=1:3x, or "
                          "slow=1:5x:20% for a fifth of its steps"));
  }
  slow.share = percent / 100;
  return slow;
}

double injected_seconds(const std::optional<SlowReplica>& slow, index_t replica, index_t step,
                        std::uint64_t seed, double seconds) {
  if (!slow || slow->replica != replica) return 0;
  const double drawn = uniform(seed, stream_of("inject"), static_cast<std::uint64_t>(step));
  return drawn < slow->share ? (slow->factor - 1) * seconds : 0;
}

}  // namespace weir::worker
