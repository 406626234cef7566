#include "ps/decide/balance.hpp"

#include <algorithm>
#include <utility>

#include "common/base/error.hpp"
#include "common/job/share.hpp"
#include "common/number/median.hpp"

namespace weir::ps {
namespace {

double longest(std::span<const index_t> counts, std::span<const double> seconds) {
  double most = 0;
  for (std::size_t at = 0; at < counts.size(); ++at) {
    most = std::max(most, static_cast<double>(counts[at]) * seconds[at]);
  }
  return most;
}

}  // namespace

List<index_t> balanced(index_t micro_batches, std::span<const double> seconds) {
  List<index_t> counts(seconds.size(), 1);
  // Each micro-batch goes to the replica that would be done first: no other choice ends earlier.
  for (auto left = micro_batches - counts.size(); left > 0; --left) {
    index_t best = 0;
    const auto end_of = [&](index_t at) {
      return static_cast<double>(counts[at] + 1) * seconds[at];
    };
    for (index_t at = 1; at < counts.size(); ++at) {
      if (end_of(at) < end_of(best)) best = at;
    }
    ++counts[best];
  }
  return counts;
}

Balance::Balance(index_t micro_batches, index_t replicas) : seconds_(replicas) {
  for (index_t replica = 0; replica < replicas; ++replica) {
    counts_.push_back(share_of(micro_batches, replica, replicas).count());
  }
}

void Balance::set(List<index_t> counts) {
  WEIR_ASSERT(counts.size() == counts_.size());
  counts_ = std::move(counts);
  for (auto& each : seconds_) each.clear();
}

void Balance::measured(std::span<const double> seconds) {
  for (index_t at = 0; at < seconds_.size(); ++at) {
    seconds_[at].push_back(seconds[at] / static_cast<double>(counts_[at]));
  }
}

std::optional<List<index_t>> Balance::propose() {
  if (seconds_.front().size() < kBalanceSteps) return std::nullopt;
  List<double> medians;
  index_t micro_batches = 0;
  for (index_t at = 0; at < seconds_.size(); ++at) {
    medians.push_back(median(std::exchange(seconds_[at], {})));
    micro_batches += counts_[at];
  }
  if (std::ranges::min(medians) <= 0) return std::nullopt;
  List<index_t> better = balanced(micro_batches, medians);
  if (longest(better, medians) > (1 - kBalanceGain) * longest(counts_, medians)) {
    return std::nullopt;
  }
  return better;
}

}  // namespace weir::ps
