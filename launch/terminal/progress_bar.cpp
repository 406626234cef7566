#include "launch/terminal/progress_bar.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ostream>

#include "common/base/text.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/summary.hpp"

namespace weir {
namespace {

constexpr std::size_t kRecentSteps = 50;
constexpr double kRedrawSeconds = 0.1;
constexpr double kLineSeconds = 10;
constexpr double kBarSeconds = 2;
constexpr index_t kBarColumns = 24;

// 1, 2, 5, 10, 20, 50 ...
index_t next_round_count(index_t count) {
  index_t ten = 1;
  while (ten * 10 <= count) ten *= 10;
  return count < 2 * ten ? 2 * ten : count < 5 * ten ? 5 * ten : 10 * ten;
}

std::string loss_text(double loss, double bits_per_byte) {
  std::string words = fixed(loss, 3);
  if (!std::isnan(bits_per_byte)) words += " (" + fixed(bits_per_byte, 2) + " bits/byte)";
  return words;
}

}  // namespace

int terminal_columns() {
  winsize size{};
  const char* const terminal = std::getenv("TERM");
  if (terminal == nullptr || std::string_view(terminal) == "dumb") return 0;
  if (isatty(STDOUT_FILENO) == 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

std::string progress_line(const ProgressBarState& state) {
  const Directive& directive = state.newest.directive;
  std::string line = text("step ", directive.step, '/', state.steps, " | loss ",
                          loss_text(directive.observed.loss, state.newest.bits_per_byte), " | ",
                          short_count(state.tokens_per_second), " tok/s | norm ",
                          fixed(directive.observed.norm, 2));
  if (directive.observed.threshold > 0) {
    line += text(" thr ", fixed(directive.observed.threshold, 2), " clip ",
                 percent(state.clipped_share));
  }
  line += text(" skip ", directive.observed.skipped_count);
  if (!state.skips.empty()) {
    line += text(" (", skips_text(state.skips, directive.observed.skipped_count), ')');
  }
  if (!std::isnan(state.newest.loss_scale)) {
    line += text(" scale ", power_text(state.newest.loss_scale));
  }
  if (!std::isnan(state.newest.flop_fraction)) {
    line += text(" | ", percent(state.newest.flop_fraction), " of peak");
  }
  line += text(" | wait ", percent(state.waited_share));
  if (!std::isnan(state.servers_waited_share)) {
    line += text(", servers ", percent(state.servers_waited_share));
  }
  return line + text(" | ", clock_text(state.seconds_left), " left");
}

ProgressBar::ProgressBar(ProgressBarParts parts) : parts_(std::move(parts)) {
  live_ = parts_.mode == ProgressMode::live ||
          (parts_.mode == ProgressMode::automatic && parts_.columns() > 0);
}

ProgressBarState ProgressBar::state() const {
  double seconds = 0, waited = 0, tokens = 0, clipped = 0;
  ServerLoad servers = {.busy_seconds = 0, .waited_seconds = 0};
  for (const StepMetrics& each : recent_) {
    seconds += each.step_seconds;
    waited += each.waited_seconds;
    tokens += each.tokens_per_second * each.step_seconds;
    clipped += each.directive.observed.clipped ? 1 : 0;
    servers.busy_seconds += each.servers.busy_seconds;
    servers.waited_seconds += each.servers.waited_seconds;
  }
  const auto count = static_cast<double>(recent_.size());
  const StepMetrics& newest = recent_.back();
  const auto steps_left = static_cast<double>(parts_.steps - newest.directive.step);
  return {.newest = newest,
          .steps = parts_.steps,
          .tokens_per_second = seconds > 0 ? tokens / seconds : 0,
          .clipped_share = clipped / count,
          .skips = skips_,
          .waited_share = seconds > 0 ? waited / seconds : 0,
          .servers_waited_share = waited_share(servers),
          .seconds_left = std::max(0.0, steps_left * seconds / count)};
}

void ProgressBar::step(const StepMetrics& metrics) {
  if (parts_.mode == ProgressMode::none) return;
  if (metrics.directive.rule.skip != SkipReason::none) ++skips_[metrics.directive.rule.skip];
  recent_.push_back(metrics);
  if (recent_.size() > kRecentSteps) recent_.pop_front();
  newest_shown_ = false;
  ++step_count_;
  const double now = parts_.clock();
  const bool first = step_count_ == 1;
  if (live_) {
    if (!first && now - shown_at_ < kRedrawSeconds) return;
    draw(progress_line(state()));
  } else {
    if (step_count_ < next_step_count_ && now - shown_at_ < kLineSeconds) return;
    if (step_count_ >= next_step_count_) next_step_count_ = next_round_count(step_count_);
    print(progress_line(state()));
  }
  newest_shown_ = true;
  shown_at_ = now;
}

void ProgressBar::bar(std::string_view what, index_t done, index_t total) {
  if (parts_.mode == ProgressMode::none) return;
  const double now = parts_.clock();
  if (done == 0) bar_begun_at_ = now;
  if (now - bar_begun_at_ < kBarSeconds) return;
  const bool ends = done >= total;
  if (now - shown_at_ < (live_ ? kRedrawSeconds : kLineSeconds) && !ends) return;
  const index_t filled = total > 0 ? kBarColumns * std::min(done, total) / total : kBarColumns;
  const std::string bar = std::string(filled, '#') + std::string(kBarColumns - filled, '.');
  const std::string line =
      text(what, " [", bar, "] ", done, '/', total, ' ', clock_text(now - bar_begun_at_));
  if (live_) {
    draw(line);
  } else {
    print(line);
  }
  shown_at_ = now;
}

void ProgressBar::end() {
  if (!newest_shown_) {
    if (live_) {
      draw(progress_line(state()));
    } else {
      print(progress_line(state()));
    }
    newest_shown_ = true;
  }
  if (line_open_) *parts_.out << '\n' << std::flush;
  line_open_ = false;
  drawn_columns_ = 0;
}

void ProgressBar::draw(const std::string& line) {
  const int columns = parts_.columns();
  // The last column stays free: some terminals wrap as soon as it is written.
  const std::size_t width = columns > 1 ? static_cast<std::size_t>(columns - 1) : 100;
  std::string shown = line.substr(0, width);
  const std::size_t size = shown.size();
  // Blanks cover the rest of a longer line, which works on any terminal; then the cursor returns to
  // the first column, so that a line of the log also begins there.
  shown.resize(std::max(size, std::min(drawn_columns_, width)), ' ');
  *parts_.out << shown << '\r' << std::flush;
  drawn_columns_ = size;
  line_open_ = true;
}

void ProgressBar::print(const std::string& line) { *parts_.out << line << std::endl; }

}  // namespace weir
