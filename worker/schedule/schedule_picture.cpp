#include "worker/schedule/schedule_picture.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/text.hpp"

namespace weir::worker {
namespace {

constexpr std::string_view kGap = " ... ";
constexpr double kColumnsMax = 40;  // of the longest span, however short the shortest is

std::string padded(std::string words, std::size_t columns, char with) {
  words.resize(columns, with);
  return words;
}

// The columns that a second takes.
double scale_of(const ScheduleReport& report, std::size_t label_columns) {
  double shortest_s = std::numeric_limits<double>::max();
  double longest_s = 0;
  for (const auto& spans : report.spans) {
    for (const ComputeSpan& span : spans) {
      const double span_s = span.end_s - span.begin_s;
      if (span_s > 0) shortest_s = std::min(shortest_s, span_s);
      longest_s = std::max(longest_s, span_s);
    }
  }
  if (longest_s == 0) return 0;
  return std::min(static_cast<double>(label_columns) / shortest_s, kColumnsMax / longest_s);
}

// What stands for a span: `F3`, or `4F3` if stages have several chunks.
std::string label_of(const Schedule& schedule, Action action) {
  action.pushes = false;
  std::string label = to_text(action);
  if (schedule.chunks() == schedule.stages()) label.erase(0, text(action.chunk).size());
  return label;
}

char filling_of(ActionKind kind) {
  if (kind == ActionKind::forward) return '-';
  return kind == ActionKind::weight_gradient ? '+' : '=';
}

std::string line_of(const Schedule& schedule, const List<ComputeSpan>& spans, double scale,
                    std::size_t columns) {
  std::string line(columns, ' ');
  for (const ComputeSpan& span : spans) {
    const auto begin = static_cast<std::size_t>(std::lround(span.begin_s * scale));
    const auto end = static_cast<std::size_t>(std::lround(span.end_s * scale));
    line.replace(
        begin, end - begin,
        padded(label_of(schedule, span.action), end - begin, filling_of(span.action.kind)));
  }
  return line;
}

// The part of a line that fits: all of it, or its beginning and its end.
std::string shortened(const std::string& line, std::size_t columns) {
  if (line.size() <= columns) return line;
  const std::size_t tail = (columns - kGap.size()) / 2;
  const std::size_t head = columns - kGap.size() - tail;
  return text(line.substr(0, head), kGap, line.substr(line.size() - tail));
}

std::string rounded(double value) {
  return text(std::stod([&] {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.4g", value);
    return std::string(digits);
  }()));
}

}  // namespace

std::string draw(const Schedule& schedule, const ScheduleReport& report, index_t width) {
  const Action longest = {ActionKind::forward, schedule.chunks() - 1, schedule.micro_batches - 1};
  const std::size_t label_columns = label_of(schedule, longest).size() + 1;
  const double scale = scale_of(report, label_columns);
  const auto columns = static_cast<std::size_t>(std::lround(report.makespan_s * scale));
  const std::size_t name_columns = text("stage ", schedule.stages() - 1, "  ").size();
  const std::size_t line_columns =
      static_cast<std::size_t>(std::max<index_t>(width, 40)) - name_columns;
  std::string out;
  for (index_t stage = 0; stage < report.spans.size(); ++stage) {
    std::string line =
        shortened(line_of(schedule, report.spans[stage], scale, columns), line_columns);
    line.erase(line.find_last_not_of(' ') + 1);
    out += text(padded(text("stage ", stage), name_columns, ' '), line, '\n');
  }
  return out + text("makespan ", rounded(report.makespan_s), " s, idle ",
                    rounded(100 * report.idle_share), " %\n");
}

}  // namespace weir::worker
