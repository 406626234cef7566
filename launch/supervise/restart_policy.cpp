#include "launch/supervise/restart_policy.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir {
namespace {

constexpr index_t kFruitlessMax = 3;
constexpr double kWaitSecondsMax = 60;

/// Whether another start would end in the same way, or the job has ended as it should.
bool is_final(int code) {
  switch (static_cast<ExitCode>(code)) {
    case ExitCode::done:
    case ExitCode::usage:
    case ExitCode::diverged:
    case ExitCode::storage:
    case ExitCode::stopped:
    case ExitCode::no_progress:
      return true;
    case ExitCode::error:
    case ExitCode::internal:
    case ExitCode::hang:
      return false;
  }
  return false;  // killed, or a code that weir does not have
}

}  // namespace

double restart_wait_seconds(index_t earlier) {
  double wait = earlier == 0 ? 0 : 1;
  for (index_t each = 1; each < earlier && wait < kWaitSecondsMax; ++each) wait *= 2;
  return std::min(wait, kWaitSecondsMax);
}

RestartDecision RestartPolicy::after(const Cycle& cycle) {
  if (cycle.committed_after > cycle.committed_before) {
    since_commit_ = fruitless_count_ = 0;
  } else if (cycle.any_began) {
    ++fruitless_count_;
  }
  const auto give_up = [&](int code, const std::string& reason) {
    return RestartDecision{.code = code, .reason = reason};
  };
  if (restarts_max_ == 0 || is_final(cycle.code)) return give_up(cycle.code, "");
  if (cycle.is_finished) return give_up(cycle.code, "");
  if (!cycle.any_began && restart_count_ == 0) return give_up(cycle.code, "");
  const bool is_internal = cycle.code == static_cast<int>(ExitCode::internal);
  if (is_internal && internal_before_) {
    return give_up(cycle.code, "the same program would fail again");
  }
  internal_before_ = internal_before_ || is_internal;
  if (fruitless_count_ >= kFruitlessMax) {
    return give_up(static_cast<int>(ExitCode::no_progress),
                   text(fruitless_count_, " starts in a row committed no step"));
  }
  if (restart_count_ >= restarts_max_) {
    return give_up(cycle.code,
                   text("it was started again ", restart_count_, " times (--restarts)"));
  }
  ++restart_count_;
  return {.restart = true, .wait_seconds = restart_wait_seconds(since_commit_++)};
}

}  // namespace weir
