#include "launch/terminal/progress_bar.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <vector>

namespace weir {
namespace {

StepMetrics metrics_of(index_t step) {
  StepMetrics metrics;
  metrics.directive.step = step;
  metrics.directive.observed.loss = 1.4824;
  metrics.directive.observed.norm = 0.83;
  metrics.directive.observed.threshold = 0.97;
  metrics.step_seconds = 0.5;
  metrics.waited_seconds = 0.015;
  metrics.tokens_per_second = 41'234;
  return metrics;
}

/// A job on a clock and a terminal of the test's own.
struct Screen {
  double now = 100;
  int columns = 0;
  std::ostringstream out;

  ProgressBar progress(ProgressMode mode, index_t steps) {
    return ProgressBar({.mode = mode,
                        .steps = steps,
                        .out = &out,
                        .clock = [this] { return now; },
                        .columns = [this] { return columns; }});
  }
  std::vector<std::string> split(char end) const {
    std::vector<std::string> pieces;
    std::istringstream text(out.str());
    for (std::string piece; std::getline(text, piece, end);) pieces.push_back(piece);
    return pieces;
  }
};

TEST_CASE("a line of progress holds what is known") {
  ProgressBarState state{.newest = metrics_of(1200),
                         .steps = 4000,
                         .tokens_per_second = 41'234,
                         .clipped_share = 0.12,
                         .waited_share = 0.03,
                         .seconds_left = 72};
  CHECK(progress_line(state) ==
        "step 1200/4000 | loss 1.482 | 41.2k tok/s | norm 0.83 thr 0.97 clip 12 % skip 0 | "
        "wait 3 % | 00:01:12 left");
  state.newest.bits_per_byte = 2.1387;
  state.newest.flop_fraction = 0.61;
  state.newest.directive.observed.threshold = 0;  // no clip
  state.newest.directive.observed.skipped_count = 2;
  CHECK(progress_line(state) ==
        "step 1200/4000 | loss 1.482 (2.14 bits/byte) | 41.2k tok/s | norm 0.83 skip 2 | "
        "61 % of peak | wait 3 % | 00:01:12 left");
  state.servers_waited_share = 0.88;
  CHECK(progress_line(state).find("| wait 3 %, servers 88 % | 00") != std::string::npos);
  state.newest.directive.observed.skipped_count = 32;
  state.skips = {{SkipReason::not_finite, 3}, {SkipReason::spike, 2}, {SkipReason::rollback, 1}};
  CHECK(progress_line(state).find(
            "skip 32 (3 not finite, 2 spike, 1 rollback, 26 undone or before) |") !=
        std::string::npos);
  state.skips = {{SkipReason::overflow, 32}};
  state.newest.loss_scale = 0x1p15;
  CHECK(progress_line(state).find("skip 32 (32 overflow) scale 2^15 | 61 % of peak") !=
        std::string::npos);
  state.newest.directive.observed.loss = std::nan("");
  CHECK(progress_line(state).find("loss nan") != std::string::npos);
}

TEST_CASE("without a terminal plain lines come at round steps, then every ten seconds") {
  Screen screen;
  ProgressBar progress = screen.progress(ProgressMode::automatic, 1000);
  for (index_t step = 1; step <= 40; ++step) {  // half a second each
    screen.now += 0.5;
    progress.step(metrics_of(step));
  }
  progress.end();
  std::vector<std::string> steps;
  for (const std::string& line : screen.split('\n'))
    steps.push_back(line.substr(0, line.find('/')));
  // 1, 2, 5, 10, 20 and 40: 20 steps of half a second are ten seconds.
  CHECK(steps ==
        std::vector<std::string>{"step 1", "step 2", "step 5", "step 10", "step 20", "step 40"});
  CHECK(screen.out.str().find('\r') == std::string::npos);
  CHECK(screen.out.str().find('\x1b') == std::string::npos);
}

TEST_CASE("slow steps get a line each ten seconds, the last step always one") {
  Screen screen;
  ProgressBar progress = screen.progress(ProgressMode::line, 1000);
  for (index_t step = 501; step <= 509; ++step) {  // resumed at 500
    screen.now += 4;
    progress.step(metrics_of(step));
  }
  progress.end();
  progress.end();  // says nothing twice
  std::vector<std::string> steps;
  for (const std::string& line : screen.split('\n'))
    steps.push_back(line.substr(0, line.find('/')));
  CHECK(steps ==
        std::vector<std::string>{"step 501", "step 502", "step 505", "step 508", "step 509"});
}

TEST_CASE("on a terminal one line is drawn ten times a second and fits the width") {
  Screen screen;
  screen.columns = 50;
  ProgressBar progress = screen.progress(ProgressMode::automatic, 1000);
  for (index_t step = 1; step <= 1000; ++step) {
    screen.now += 0.001;
    progress.step(metrics_of(step));
    if (step == 500) screen.columns = 30;  // the window was made smaller
  }
  progress.end();
  const std::string all = screen.out.str();
  CHECK(std::count(all.begin(), all.end(), '\n') == 1);
  CHECK(all.back() == '\n');
  const std::vector<std::string> drawn = screen.split('\r');  // the last piece is the line's end
  CHECK(drawn.size() >= 10);
  CHECK(drawn.size() <= 13);
  CHECK(drawn[0] == "step 1/1000 | loss 1.482 | 41.2k tok/s | norm 0.8");
  CHECK(drawn[0].size() == 49);
  CHECK(drawn[drawn.size() - 2] == "step 1000/1000 | loss 1.482 |");
  CHECK(all.find('\x1b') == std::string::npos);
}

TEST_CASE(
    "what is left of a longer line is blanked out, without a code that a terminal must know") {
  Screen screen;
  screen.columns = 80;
  ProgressBar progress = screen.progress(ProgressMode::live, 10);
  progress.bar("a long name", 0, 4);
  screen.now += 3;
  progress.bar("a long name", 1, 4);
  screen.now += 3;
  progress.bar("short", 4, 4);
  const std::vector<std::string> drawn = screen.split('\r');
  REQUIRE(drawn.size() == 2);
  CHECK(drawn[1] == "short [########################] 4/4 00:00:06" + std::string(6, ' '));
}

TEST_CASE("a terminal that is dumb, or does not say what it is, gets plain lines") {
  const char* const before = std::getenv("TERM");
  const std::string own = before == nullptr ? "" : before;
  setenv("TERM", "dumb", 1);
  CHECK(terminal_columns() == 0);
  unsetenv("TERM");
  CHECK(terminal_columns() == 0);
  if (before != nullptr) setenv("TERM", own.c_str(), 1);
}

TEST_CASE("mode none prints nothing") {
  Screen screen;
  screen.columns = 80;
  ProgressBar progress = screen.progress(ProgressMode::none, 10);
  progress.step(metrics_of(1));
  progress.bar("validation", 0, 10);
  screen.now += 100;
  progress.bar("validation", 10, 10);
  progress.end();
  CHECK(screen.out.str().empty());
}

TEST_CASE("time left, clip and wait come from the last steps") {
  Screen screen;
  ProgressBar progress = screen.progress(ProgressMode::line, 100);
  for (index_t step = 1; step <= 2; ++step) {
    StepMetrics metrics = metrics_of(step);
    metrics.directive.observed.clipped = step == 2;
    metrics.directive.observed.skipped_count = step - 1;
    if (step == 2) metrics.directive.rule.skip = SkipReason::spike;
    metrics.step_seconds = step == 1 ? 1.0 : 3.0;
    metrics.waited_seconds = step == 1 ? 0.0 : 1.0;
    metrics.tokens_per_second = step == 1 ? 3000 : 1000;
    screen.now += metrics.step_seconds;
    progress.step(metrics);
  }
  const std::string line = screen.split('\n').at(1);
  CAPTURE(line);
  CHECK(line.find("clip 50 %") != std::string::npos);
  CHECK(line.find("skip 1 (1 spike)") != std::string::npos);
  CHECK(line.find("wait 25 %") != std::string::npos);
  CHECK(line.find("1.50k tok/s") != std::string::npos);    // 6,000 tokens in 4 s
  CHECK(line.find("00:03:16 left") != std::string::npos);  // 98 steps of 2 s
}

TEST_CASE("what ends within two seconds gets no bar, what takes longer one that ends full") {
  Screen screen;
  screen.columns = 80;
  ProgressBar progress = screen.progress(ProgressMode::automatic, 10);
  progress.bar("validation", 0, 4);
  screen.now += 1;
  progress.bar("validation", 4, 4);
  CHECK(screen.out.str().empty());
  progress.bar("validation", 0, 4);
  screen.now += 3;
  progress.bar("validation", 1, 4);
  CHECK(screen.out.str() == "validation [######..................] 1/4 00:00:03\r");
  screen.now += 1;
  progress.bar("validation", 4, 4);
  CHECK(screen.split('\r').back() == "validation [########################] 4/4 00:00:04");
}

}  // namespace
}  // namespace weir
