#pragma once

#include <deque>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

#include "common/base/machine.hpp"
#include "launch/run/metrics.hpp"

namespace weir {

enum class ProgressMode {
  automatic,  ///< live on a terminal, else line
  live,       ///< one line that is drawn again and again
  line,       ///< a line now and then
  none,
};

/// The columns of the terminal that standard output reaches; 0 if it reaches none, or one that
/// cannot redraw a line (TERM is dumb or not set). Under mpirun every rank has a terminal of its
/// own, so isatty() does not help, but that terminal has a size only if mpirun itself writes to a
/// terminal.
int terminal_columns();

/// What a progress line shows. Shares and speeds are those of the last steps.
struct ProgressBarState {
  StepMetrics newest;
  index_t steps = 0;  ///< the job's last step
  double tokens_per_second = 0;
  double clipped_share = 0;
  SkipCounts skips = {};                   ///< since this start
  double waited_share = 0;                 ///< share of the time that went on waiting for servers
  double servers_waited_share = kUnknown;  ///< share of their own time that servers waited
  double seconds_left = 0;
};

/// step 1200/4000 | loss 1.482 (2.14 bits/byte) | 41.2k tok/s | norm 0.83 thr 0.97 clip 12 % skip 0
/// (or `skip 3 (2 spike, 1 not finite)`) | 61 % of peak | wait 3 %, servers 88 % | 00:01:12 left.
/// Unknown values are left out, and so are those that mean nothing without a clip.
std::string progress_line(const ProgressBarState& state);

struct ProgressBarParts {
  ProgressMode mode = ProgressMode::automatic;
  index_t steps = 0;  ///< the job's last step
  std::ostream* out = nullptr;
  std::function<double()> clock = seconds_now;
  std::function<int()> columns = terminal_columns;
};

/// Shows people how far the job is; one rank has one. On a terminal the last line is redrawn at
/// most ten times a second, and never wider than the terminal. Otherwise plain lines: after the
/// steps 1, 2, 5, 10, 20, 50 … of this start, 10 s after the line before, and at the end.
class ProgressBar {
 public:
  explicit ProgressBar(ProgressBarParts parts);

  void step(const StepMetrics& metrics);
  /// Draws a bar for other work that takes long; it appears once `what` takes more than 2 s. Call
  /// it often, first with done = 0 and last with done = total.
  void bar(std::string_view what, index_t done, index_t total);
  /// Ends a live line after the last step, so that nothing overwrites it.
  void end();

 private:
  ProgressBarState state() const;
  void draw(const std::string& line);
  void print(const std::string& line);

  ProgressBarParts parts_;
  bool live_ = false;
  index_t step_count_ = 0;  ///< steps since this start
  std::deque<StepMetrics> recent_;
  SkipCounts skips_;
  index_t next_step_count_ = 1;  ///< the step at which a plain line is due in any case
  bool newest_shown_ = true;
  double shown_at_ = 0;
  double bar_begun_at_ = 0;
  bool line_open_ = false;         ///< a live line has no line end yet
  std::size_t drawn_columns_ = 0;  ///< width of the live line
};

}  // namespace weir
