#include "worker/train/inject.hpp"

#include <algorithm>
#include <charconv>

#include "common/base/error.hpp"
#include "common/number/random.hpp"

namespace weir::worker {
namespace {

const std::vector<std::pair<std::string, FaultKind>> kFaultNames = {
    {"bad", FaultKind::bad},
    {"scale", FaultKind::scale},
    {"tensor", FaultKind::tensor},
    {"flip", FaultKind::flip},
    {"overflow", FaultKind::overflow}};

std::uint64_t stream_of_fault(FaultKind kind, std::string_view what = "") {
  const auto found =
      std::ranges::find(kFaultNames, kind, &std::pair<std::string, FaultKind>::second);
  return stream_of(text("inject ", found->first, what));
}

/// Takes the number at the beginning of `rest`, and `suffix` after it, out of `rest`.
template <class Number>
bool take(std::string_view& rest, Number& number, std::string_view suffix) {
  const auto [end, code] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (code != std::errc()) return false;
  rest.remove_prefix(end - rest.data());
  if (!rest.starts_with(suffix)) return false;
  rest.remove_prefix(suffix.size());
  return true;
}

/// `1%`, `300-319` or `300-`.
bool take_when(std::string_view& rest, Fault& fault) {
  double percent = 0;
  if (std::string_view share = rest; take(share, percent, "%")) {
    rest = share;
    fault.share = percent / 100;
    return percent >= 0 && percent <= 100;
  }
  if (!take(rest, fault.first, "-")) return false;
  const bool ends = !rest.empty() && rest.front() != ':';
  return (!ends || take(rest, fault.last, "")) && 1 <= fault.first && fault.first <= fault.last;
}

bool parse_fault(std::string_view rest, Fault& fault) {
  if (!take_when(rest, fault)) return false;
  if (strikes_one_element(fault.kind)) return rest.empty();
  if (!rest.starts_with(":")) return false;
  rest.remove_prefix(1);
  return take(rest, fault.factor, "x") && rest.empty() && fault.factor >= 1;
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
  for (const auto& [name, kind] : kFaultNames) {
    if (begins(name + "=")) {
      return parse_fault(rest, injection.faults.emplace_back(Fault{.kind = kind}));
    }
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
          "slow=1:5x:20% for a fifth of its steps, slow=any:5x:5%, sleep=50ms; or, for a share of "
          "the steps as 1% or for steps as 300-319 or 300-, bad=1%:30x, scale=300-:4x, "
          "tensor=1%:1000x, flip=1%, overflow=1%"));
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

bool strikes(const Fault& fault, index_t step, std::uint64_t seed) {
  return fault.first <= step && step <= fault.last &&
         uniform(seed, stream_of_fault(fault.kind), static_cast<std::uint64_t>(step)) < fault.share;
}

bool has_random_targets(const Injection& injection, index_t step, std::uint64_t seed) {
  return std::ranges::any_of(injection.faults, [&](const Fault& fault) {
    return fault.kind == FaultKind::bad && strikes(fault, step, seed);
  });
}

index_t struck(const Fault& fault, index_t step, std::uint64_t seed, index_t count) {
  const std::uint64_t word =
      random_word(seed, stream_of_fault(fault.kind, " place"), static_cast<std::uint64_t>(step));
  return static_cast<index_t>(word % static_cast<std::uint64_t>(count));
}

}  // namespace weir::worker
