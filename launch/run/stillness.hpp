#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/base/activity.hpp"

namespace weir {

/// How long nothing may go on in a rank:
///
///   max(factor x floor, 5 x the 99th percentile of the last 100 gaps between moves in this phase)
///
/// The factor is 1 where ranks train and validate, 4 where they start and close, 10 where they read
/// a checkpoint and while there is work with files: a slow disk is no hang.
class Deadlines {
 public:
  explicit Deadlines(double floor_s) : floor_s_(floor_s) {}
  void note_gap(JobPhase phase, double seconds);
  double seconds(JobPhase phase, bool has_file_work) const;

 private:
  static constexpr std::size_t kPhases = 5;
  struct Gaps {
    std::vector<double> newest;  ///< a ring
    std::size_t next = 0;
  };
  double floor_s_;
  std::array<Gaps, kPhases> gaps_;
};

/// Judges one rank by looks at its activity. It moves if a wait begins or ends, a message comes, a
/// file is read or written, or if it computes, which shows in the time of its thread.
class Stillness {
 public:
  /// now_s: of a clock that stands still while the process is stopped.
  Stillness(double floor_s, double now_s) : deadlines_(floor_s), now_s_(now_s), moved_s_(now_s) {}

  /// computed_s: what the thread that trains has computed so far.
  void look(double now_s, const ActivityNow& activity, double computed_s);

  double still_s() const { return now_s_ - moved_s_; }
  double deadline_s() const {
    return deadlines_.seconds(activity_.phase, activity_.file_work != nullptr);
  }
  bool in_time() const { return still_s() < deadline_s(); }
  const ActivityNow& activity() const { return activity_; }

 private:
  Deadlines deadlines_;
  ActivityNow activity_;
  double computed_s_ = 0;
  double now_s_;
  double moved_s_;
};

}  // namespace weir
