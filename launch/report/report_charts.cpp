#include "launch/report/report_charts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "common/base/text.hpp"

namespace weir {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

enum class Kind {
  plain,
  smooth,      ///< faintly, and its mean over neighbours above it
  validation,  ///< a dot for each line of validation
};

/// A field of the lines, or the difference of two.
struct SeriesSpec {
  const char* name;
  const char* field;
  Kind kind = Kind::plain;
  const char* less = nullptr;  ///< another field, which is subtracted
};

enum class Scale { linear, from_zero, logarithmic };  ///< the last only where it helps

struct ChartSpec {
  const char* title;
  const char* unit;  ///< `bytes` and `s` get the prefix that fits, a `%` is of shares of 1
  Scale scale;
  std::vector<SeriesSpec> series;
};

/// One row a chart. Add a row to show another field of metrics.jsonl.
const std::vector<ChartSpec>& chart_specs() {
  using enum Kind;
  using enum Scale;
  static const std::vector<ChartSpec> all = {
      {"Loss",
       "nats",
       logarithmic,
       {{"training", "loss", smooth}, {"validation", "loss", validation}}},
      {"Validation accuracy", "%", linear, {{"validation", "accuracy", validation}}},
      {"Norm of the gradient",
       "",
       logarithmic,
       {{"norm", "norm"}, {"threshold of the clip", "threshold"}}},
      {"Coefficient of the clip", "", logarithmic, {{"coefficient", "coefficient"}}},
      {"Loss scale", "", logarithmic, {{"loss scale", "loss_scale"}}},
      {"Learning rate", "", from_zero, {{"rate", "rate"}}},
      {"Speed", "tokens/s", from_zero, {{"tokens per second", "tokens_per_s", smooth}}},
      {"Share of the measured GEMM peak", "%", from_zero, {{"share", "flop_fraction", smooth}}},
      {"Time of a step",
       "s",
       from_zero,
       {{"computing", "step_s", plain, "waited_s"}, {"waiting for servers", "waited_s"}}},
      {"Time of the servers in a step, mean",
       "s",
       from_zero,
       {{"busy", "server_busy_s"}, {"waiting", "server_waited_s"}}},
      {"Imbalance between servers, busiest over mean",
       "",
       linear,
       {{"busy time", "server_busy_imbalance", smooth}, {"bytes", "server_bytes_imbalance"}}},
      {"Pushed and pulled by a worker, a step",
       "bytes",
       from_zero,
       {{"pushed", "pushed_bytes"}, {"pulled", "pulled_bytes"}}},
      {"Contributors to an update", "replicas", from_zero, {{"contributors", "contributors"}}},
      {"Contributions dropped since the start", "", from_zero, {{"dropped", "dropped_count"}}},
      {"Staleness", "updates", from_zero, {{"staleness, at most", "staleness"}}},
      {"Steps skipped since the start", "", from_zero, {{"skipped", "skipped_count"}}},
  };
  return all;
}

std::vector<double> values_of(const RunLines& lines, const SeriesSpec& spec) {
  const bool known = lines.has(spec.field) && (spec.less == nullptr || lines.has(spec.less));
  if (!known) return {};
  std::vector<double> values = lines.column(spec.field);
  if (spec.less == nullptr) return values;
  const std::vector<double> less = lines.column(spec.less);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] -= less[i];
  return values;
}

bool says_something(const std::vector<double>& values) {
  return std::ranges::any_of(values, [](double value) { return is_drawn(value) && value != 0; });
}

/// An odd number of steps, enough to see a trend in the noise of a run of `steps` steps.
index_t window_of(std::size_t steps) {
  return std::clamp<index_t>(static_cast<index_t>(steps) / 50, 2, 200) / 2 * 2 + 1;
}

void add_series(Chart& chart, const RunLog& log, const SeriesSpec& spec) {
  static constexpr const char* kStyles[] = {"first", "second", "third"};
  const RunLines& lines = spec.kind == Kind::validation ? log.validations : log.steps;
  std::vector<double> values = values_of(lines, spec);
  if (!says_something(values)) return;
  const std::vector<double> steps(lines.steps.begin(), lines.steps.end());
  const char* style = kStyles[std::min<std::size_t>(chart.series.size(), 2)];
  constexpr std::size_t kFewest = 20;
  if (spec.kind == Kind::validation) {
    style = "dots";
  } else if (spec.kind == Kind::smooth && steps.size() >= kFewest) {
    const index_t window = window_of(steps.size());
    const std::vector<double> mean = smoothed(values, window);
    chart.series.push_back({spec.name, "faint", steps, std::move(values)});
    chart.series.push_back({text("mean of ", window, " steps"), style, steps, mean});
    return;
  }
  chart.series.push_back({spec.name, style, steps, std::move(values)});
}

/// Bytes as KiB, MiB, …, seconds below one as ms, shares as per cent.
void fit_unit(Chart& chart) {
  double largest = 0;
  for (const ChartSeries& series : chart.series) {
    for (const double value : series.values) {
      if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
    }
  }
  double factor = 1;
  if (chart.unit == "bytes") {
    for (const char* unit : {"KiB", "MiB", "GiB"}) {
      if (largest * factor < 1024) break;
      factor /= 1024;
      chart.unit = unit;
    }
  } else if (chart.unit == "s" && largest < 1) {
    factor = 1000;
    chart.unit = "ms";
  } else if (chart.unit == "%") {
    factor = 100;
  }
  if (factor == 1) return;
  for (ChartSeries& series : chart.series) {
    for (double& value : series.values) value *= factor;
  }
}

}  // namespace

std::vector<double> smoothed(const std::vector<double>& values, index_t window) {
  std::vector<double> means(values.size(), kNan);
  const index_t size = std::ssize(values);
  for (index_t i = 0; i < size; ++i) {
    // Each sum is made anew: a running sum would keep the rounding error of a value like 1e30 for
    // ever.
    const index_t begin = std::max<index_t>(0, i - window / 2);
    const index_t end = std::min(size, i + window / 2 + 1);
    double sum = 0;
    index_t count = 0;
    for (index_t j = begin; j < end; ++j) {
      const double value = values[j];
      if (!std::isfinite(value)) continue;
      sum += value;
      ++count;
    }
    if (count > 0) means[i] = sum / static_cast<double>(count);
  }
  return means;
}

std::vector<Chart> report_charts(const RunLog& log) {
  std::vector<Chart> charts;
  for (const ChartSpec& spec : chart_specs()) {
    Chart chart;
    chart.title = spec.title;
    chart.unit = spec.unit;
    chart.from_zero = spec.scale == Scale::from_zero;
    chart.may_be_logarithmic = spec.scale == Scale::logarithmic;
    for (const SeriesSpec& series : spec.series) add_series(chart, log, series);
    if (chart.series.empty()) continue;
    const bool is_loss = std::string(spec.series.front().field) == "loss";
    if (is_loss && log.steps.has("bits_per_byte") &&
        says_something(log.steps.column("bits_per_byte"))) {
      chart.right_factor = 1 / std::numbers::ln2;
      chart.right_unit = "bits per byte";
    }
    fit_unit(chart);
    const auto is_seen = [](const ChartSeries& series) {
      return std::ranges::any_of(series.values, is_drawn);
    };
    if (std::ranges::any_of(chart.series, is_seen)) charts.push_back(std::move(chart));
  }
  return charts;
}

/// The mark of the first life counts those that went on within `width` steps after it.
static std::vector<ChartMark> resume_marks(const RunLog& log, double width) {
  std::vector<index_t> steps;
  for (std::size_t life = 1; life < log.lives.size(); ++life) {
    steps.push_back(log.lives[life].step);
  }
  std::ranges::sort(steps);
  std::vector<ChartMark> marks;
  for (std::size_t first = 0; first < steps.size();) {
    const auto step = static_cast<double>(steps[first]);
    std::size_t next = first + 1;
    while (next < steps.size() && static_cast<double>(steps[next]) < step + width) ++next;
    const std::size_t count = next - first;
    marks.push_back({step, "resume",
                     count == 1 ? text("resumed at step ", steps[first])
                                : text("resumed ", count, " times from step ", steps[first], " to ",
                                       steps[next - 1])});
    first = next;
  }
  return marks;
}

std::vector<ChartMark> report_marks(const RunLog& log, index_t columns) {
  const AxisRange steps = report_steps(log);
  const double width = (steps.high - steps.low) / static_cast<double>(columns);
  std::vector<ChartMark> marks = resume_marks(log, width);
  const std::vector<std::string>& skips = log.steps.skips;
  for (std::size_t row = 0; row < skips.size(); ++row) {
    if (skips[row].empty()) continue;
    const double first = static_cast<double>(log.steps.steps[row]);
    index_t more = 0;
    std::size_t last = row;
    for (std::size_t next = row + 1; next < skips.size(); ++next) {
      if (static_cast<double>(log.steps.steps[next]) >= first + width) break;
      if (skips[next] != skips[row]) {
        if (!skips[next].empty()) break;
        continue;
      }
      ++more;
      last = next;
    }
    const std::string reason = reason_text(skips[row]);
    marks.push_back({first, "skip",
                     more == 0 ? text("step ", log.steps.steps[row], " skipped: ", reason)
                               : text(more + 1, " steps from ", log.steps.steps[row], " to ",
                                      log.steps.steps[last], " skipped: ", reason)});
    row = last;
  }
  return marks;
}

AxisRange report_steps(const RunLog& log) {
  AxisRange range{std::numeric_limits<double>::infinity(), 0};
  for (const RunLines* lines : {&log.steps, &log.validations}) {
    if (lines->steps.empty()) continue;
    range.low = std::min(range.low, static_cast<double>(lines->steps.front()));
    range.high = std::max(range.high, static_cast<double>(lines->steps.back()));
  }
  if (range.low > range.high) return {0, 1};
  if (range.low == range.high) return {range.low - 1, range.high + 1};
  return range;
}

std::string reason_text(const std::string& reason) {
  std::string words = reason;
  std::ranges::replace(words, '_', ' ');
  return words;
}

}  // namespace weir
