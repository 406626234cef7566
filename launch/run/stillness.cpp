#include "launch/run/stillness.hpp"

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"

namespace weir {
namespace {

double factor_of(JobPhase phase) {
  switch (phase) {
    case JobPhase::train:
    case JobPhase::validate:
      return 1;
    case JobPhase::start:
    case JobPhase::close:
      return 4;
    case JobPhase::load:
      return 10;
  }
  WEIR_UNREACHABLE();
}

}  // namespace

void Deadlines::note_gap(JobPhase phase, double seconds) {
  constexpr std::size_t kKept = 100;
  Gaps& gaps = gaps_[static_cast<std::size_t>(phase)];
  if (gaps.newest.size() < kKept) {
    gaps.newest.push_back(seconds);
  } else {
    gaps.newest[gaps.next] = seconds;
    gaps.next = (gaps.next + 1) % kKept;
  }
}

double Deadlines::seconds(JobPhase phase, bool has_file_work) const {
  constexpr double kFileFactor = 10;
  const double least = floor_s_ * std::max(factor_of(phase), has_file_work ? kFileFactor : 0);
  std::vector<double> gaps = gaps_[static_cast<std::size_t>(phase)].newest;
  if (gaps.empty()) return least;
  const auto at = gaps.begin() + std::lround(std::ceil(0.99 * double(gaps.size()))) - 1;
  std::ranges::nth_element(gaps, at);
  return std::max(least, 5 * *at);
}

void Stillness::look(double now_s, const ActivityNow& activity, double computed_s) {
  constexpr double kComputesSeconds = 20e-6;  // more than waking up takes
  const bool computes =
      activity.need.what == nullptr && computed_s - computed_s_ > kComputesSeconds;
  if (computes || activity.moves != activity_.moves) {
    deadlines_.note_gap(activity_.phase, now_s - moved_s_);
    moved_s_ = now_s;
  }
  now_s_ = now_s;
  activity_ = activity;
  computed_s_ = computed_s;
}

}  // namespace weir
