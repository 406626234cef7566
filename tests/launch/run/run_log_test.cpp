#include "launch/run/run_log.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "common/base/error.hpp"
#include "launch/run/metrics.hpp"
#include "tests/temporary_folder.hpp"

namespace weir {
namespace {

using test::TemporaryFolder;

RunLog log_of(const std::string& lines) {
  const TemporaryFolder folder;
  std::ofstream(folder / "metrics.jsonl") << lines;
  return read_run_log(folder / "metrics.jsonl");
}

std::string step_line(index_t step, double loss) {
  return text(R"({"kind":"step","step":)", step, R"(,"loss":)", loss, R"(,"skip":"none"})", "\n");
}

TEST_CASE("what MetricsFile writes is read back: numbers, null, infinities, reasons, the summary") {
  const TemporaryFolder folder;
  {
    MetricsFile file(folder / "metrics.jsonl");
    Layout layout;
    layout.replicas = 2;
    file.start(0, layout, "1.2");
    StepMetrics metrics;
    metrics.directive.step = 1;
    metrics.directive.observed.loss = 1.25;
    metrics.directive.observed.coefficient = 0.5;
    metrics.directive.observed.norm = 0.5;
    metrics.flop_fraction = kUnknown;
    file.step(metrics);
    metrics.directive.step = 2;
    metrics.directive.rule.skip = SkipReason::not_finite;
    metrics.directive.observed.loss = std::nan("");
    metrics.directive.observed.norm = INFINITY;
    file.step(metrics);
    ValidationMetrics validation;
    validation.step = 2;
    validation.loss = 1.5;
    file.validation(validation);
    SummaryMetrics summary;
    summary.step = 2;
    summary.stopped = true;
    summary.elapsed_seconds = 3.5;
    file.summary(summary);
  }
  const RunLog log = read_run_log(folder / "metrics.jsonl");
  REQUIRE(log.lives.size() == 1);
  CHECK(log.lives[0].version == "1.2");
  CHECK(log.lives[0].layout[1] == std::pair<std::string, std::string>("replicas", "2"));
  CHECK(log.steps.steps == std::vector<index_t>{1, 2});
  CHECK(log.steps.skips == std::vector<std::string>{"", "not_finite"});
  CHECK(log.steps.column("loss")[0] == 1.25);
  CHECK(log.steps.column("coefficient")[0] == 0.5);
  CHECK(std::isnan(log.steps.column("loss")[1]));
  CHECK(log.steps.column("norm")[1] == INFINITY);
  CHECK(std::isnan(log.steps.column("flop_fraction")[0]));
  CHECK(log.validations.steps == std::vector<index_t>{2});
  CHECK(log.validations.column("loss")[0] == 1.5);
  CHECK(log.summary.at("elapsed_s") == 3.5);
  CHECK(log.stopped);
  CHECK(log.damaged_line_count == 0);
  CHECK_THROWS_WITH_AS(log.steps.column("nothing"), "no line has a field nothing", Error);
}

TEST_CASE("a later life takes the place of what came after the step it goes on from") {
  std::string lines = "{\"kind\":\"start\",\"step\":0}\n";
  for (index_t step = 1; step <= 6; ++step) lines += step_line(step, 10.0);
  lines += "{\"kind\":\"validation\",\"step\":6,\"loss\":9}\n{\"kind\":\"summary\",\"step\":6}\n";
  lines += "{\"kind\":\"start\",\"step\":3}\n" + step_line(4, 20.0) + step_line(5, 21.0);
  const RunLog log = log_of(lines);
  CHECK(log.lives.size() == 2);
  CHECK(log.steps.steps == std::vector<index_t>{1, 2, 3, 4, 5});
  CHECK(log.steps.column("loss") == std::vector<double>{10, 10, 10, 20, 21});
  CHECK(log.steps.lost_count == 3);
  CHECK(log.validations.steps.empty());
  CHECK(log.summary.empty());  // it is still going on
}

TEST_CASE("of several lines for a step the last counts, in whatever order they come") {
  const RunLog log = log_of(step_line(1, 1) + step_line(3, 3) + step_line(2, 2) + step_line(3, 4));
  CHECK(log.steps.steps == std::vector<index_t>{1, 2, 3});
  CHECK(log.steps.column("loss") == std::vector<double>{1, 2, 4});
}

TEST_CASE("a line that is still being written is passed over, one that is damaged is counted") {
  const std::string good = step_line(1, 1) + step_line(2, 2);
  const std::string half = step_line(3, 3).substr(0, 20);
  const RunLog running = log_of(good + half);
  CHECK(running.steps.steps.size() == 2);
  CHECK(running.damaged_line_count == 0);
  const RunLog damaged = log_of("nonsense\n[1,2]\n" + good);
  CHECK(damaged.steps.steps.size() == 2);
  CHECK(damaged.damaged_line_count == 2);
  // A rank died over half a line; the next life's first line stands behind it.
  const RunLog resumed =
      log_of(good + half + "{\"kind\":\"start\",\"step\":1}\n" + step_line(2, 5));
  CHECK(resumed.lives.size() == 1);
  CHECK(resumed.steps.column("loss") == std::vector<double>{1, 5});
  CHECK(resumed.damaged_line_count == 1);
}

TEST_CASE("fields that come later, or are no numbers, and unknown kinds of lines do no harm") {
  const RunLog log = log_of(R"({"kind":"step","step":1,"loss":1}
{"kind":"step","step":2,"loss":2,"staleness":3,"words":"x","list":[1],"clipped":true}
{"kind":"novelty","step":7}
{"kind":"step"}
{"step":9}
{"kind":"step","step":3.5}
{"kind":"step","step":-4}
)");
  CHECK(log.steps.steps == std::vector<index_t>{1, 2});
  CHECK(std::isnan(log.steps.column("staleness")[0]));
  CHECK(log.steps.column("staleness")[1] == 3);
  CHECK(log.steps.column("clipped")[1] == 1);
  CHECK_FALSE(log.steps.has("words"));
  CHECK_FALSE(log.steps.has("list"));
}

TEST_CASE("lines that weir would never write cost no more than others of their size") {
  // Each of these took minutes, all memory or the stack.
  constexpr index_t kCount = 100'000;
  std::string lines;
  for (index_t step = kCount; step >= 1; --step) lines += step_line(step, double(step));
  RunLog log = log_of(lines);
  REQUIRE(log.steps.steps.size() == kCount);
  CHECK(std::ranges::is_sorted(log.steps.steps));
  CHECK(log.steps.column("loss")[41] == 42);

  lines.clear();
  for (index_t step = 1; step <= 20'000; ++step) {
    lines += text(R"({"kind":"step","step":)", step, R"(,"f)", step, R"(":)", step, "}\n");
  }
  log = log_of(lines);
  CHECK(log.steps.column("f777")[776] == 777);
  CHECK(std::isnan(log.steps.column("f777")[777]));

  const std::string deep = std::string(300'000, '[') + std::string(300'000, ']');
  log = log_of(R"({"kind":"start","step":0,"version":)" + deep + "}\n" +
               R"({"kind":"start","step":0,"layout":{"replicas":2,"x":)" + deep + "}}\n" +
               R"({"kind":"step","step":1,"x":)" + deep + R"(,"loss":1})" + "\n");
  CHECK(log.lives.size() == 2);
  CHECK(log.lives[1].layout[0] == std::pair<std::string, std::string>("replicas", "2"));
  CHECK(log.steps.column("loss") == std::vector<double>{1});

  std::string wide = R"({"kind":"step","step":1)";
  for (int i = 0; i < 100'000; ++i) wide += text(",\"a", i, "\":null,\"a", i, "_state\":\"inf\"");
  log = log_of(wide + "}\n" + step_line(2, 3));
  CHECK(log.steps.steps.size() == 2);
  CHECK(log.steps.column("a7")[0] == INFINITY);
  CHECK_FALSE(log.steps.has("a99999"));

  log = log_of(step_line(1, 1) + std::string(8'000'000, 'x') + "\n" + step_line(2, 2));
  CHECK(log.steps.steps == std::vector<index_t>{1, 2});
  CHECK(log.damaged_line_count == 1);
}

TEST_CASE("steps that no number can be, or that only a 64-bit one can, do not count") {
  const RunLog log = log_of(step_line(3, 1) + step_line(9'223'372'036'854'775'807, 1) +
                            R"({"kind":"step","step":18446744073709551615,"loss":1})" + "\n" +
                            R"({"kind":"start","step":-9223372036854775808})" + "\n" +
                            step_line(index_t{1} << 53, 2));
  CHECK(log.steps.steps == std::vector<index_t>{3, index_t{1} << 53});
  CHECK(log.lives.empty());
}

TEST_CASE("a file that is not there, or is none, is named") {
  CHECK_THROWS_WITH_AS(read_run_log("/nowhere/metrics.jsonl"),
                       "cannot open /nowhere/metrics.jsonl: No such file or directory", Error);
  CHECK_THROWS_WITH_AS(read_run_log("/dev/zero"),
                       "cannot open /dev/zero: it is a device, not a regular file", Error);
}

}  // namespace
}  // namespace weir
