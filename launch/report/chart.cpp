#include "launch/report/chart.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/error.hpp"
#include "common/base/safe_text.hpp"
#include "launch/terminal/quantities.hpp"

namespace weir {
namespace {

constexpr double kLogarithmicFrom = 4;  // times the lowest value

/// A place in the picture; a tenth of a pixel is enough.
std::string place(double value) { return fixed(value, 1); }

double position(double value, AxisRange scale, bool logarithmic) {
  if (!logarithmic) return (value - scale.low) / (scale.high - scale.low);
  // Values are compared without division: 1e299 / 1e-299 overflows.
  return (std::log(value) - std::log(scale.low)) / (std::log(scale.high) - std::log(scale.low));
}

std::string tick_text(double value) {
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (size >= 1e4 && size < 1e13) return short_count(value);
  if (size > 1e30 || size < 1e-30) return text(value);  // a float is too short
  return text(static_cast<float>(value));
}

AxisRange range_of(const std::vector<ChartSeries>& series) {
  AxisRange range{std::numeric_limits<double>::infinity(),
                  -std::numeric_limits<double>::infinity()};
  for (const ChartSeries& each : series) {
    for (const double value : each.values) {
      if (!is_drawn(value)) continue;
      range.low = std::min(range.low, value);
      range.high = std::max(range.high, value);
    }
  }
  return range;
}

/// The values with some air around them.
AxisRange scale_of(AxisRange range, bool logarithmic, bool from_zero) {
  if (logarithmic) return {range.low / 1.15, range.high * 1.15};
  if (from_zero) range.low = std::min(range.low, 0.0);
  const double size = std::max(std::abs(range.low), std::abs(range.high));
  double air = std::max(0.05 * (range.high - range.low), 1e-6 * size);
  if (range.low == range.high) air = size == 0 ? 1 : 0.1 * size;
  return {from_zero && range.low == 0 ? 0 : range.low - air, range.high + air};
}

/// Where things are in a picture.
struct Canvas {
  const ChartFrame& frame;
  AxisRange steps, values;
  bool logarithmic;

  double x(double step) const {
    return frame.left + position(step, steps, false) * (frame.right - frame.left);
  }
  double y(double value) const {
    return frame.bottom - position(value, values, logarithmic) * (frame.bottom - frame.top);
  }
};

std::string line(const char* style, double x1, double y1, double x2, double y2) {
  return text("<line class=\"", style, "\" x1=\"", place(x1), "\" y1=\"", place(y1), "\" x2=\"",
              place(x2), "\" y2=\"", place(y2), "\"/>");
}

std::string label(const char* style, double x, double y, const std::string& words) {
  return text("<text class=\"", style, "\" x=\"", place(x), "\" y=\"", place(y), "\">",
              markup_safe(words), "</text>");
}

std::string axes(const Chart& chart, const Canvas& at) {
  const ChartFrame& frame = at.frame;
  std::string svg;
  for (const double value : ticks(at.values, at.logarithmic, 5)) {
    const double y = at.y(value);
    svg += line("grid", frame.left, y, frame.right, y);
    svg += label("end", frame.left - 6, y + 4, tick_text(value));
  }
  if (chart.right_factor > 0) {
    const AxisRange right{at.values.low * chart.right_factor, at.values.high * chart.right_factor};
    for (const double value : ticks(right, at.logarithmic, 5)) {
      const double y = at.y(value / chart.right_factor);
      svg += line("tick", frame.right, y, frame.right + 4, y);
      svg += label("start", frame.right + 8, y + 4, tick_text(value));
    }
    svg += label("unit-right", frame.width - 4, frame.top - 8, chart.right_unit);
  }
  for (const double step : ticks(at.steps, false, 8)) {
    if (step != std::floor(step)) continue;  // there are no half steps
    svg += line("tick", at.x(step), frame.bottom, at.x(step), frame.bottom + 4);
    svg += label("middle", at.x(step), frame.bottom + 17, tick_text(step));
  }
  svg += line("axis", frame.left, frame.bottom, frame.right, frame.bottom);
  return svg + label("middle", (frame.left + frame.right) / 2, frame.height - 1, "step");
}

/// The path, with a gap where a value that is not finite stands between two that are drawn.
std::string path_of(const ChartSeries& series, const std::vector<std::size_t>& drawn,
                    const Canvas& at) {
  std::string path;
  std::size_t before = 0;
  bool begun = false;
  for (const std::size_t index : drawn) {
    // Gaps narrower than a column of pixels would only make the line disappear.
    bool gap = !begun;
    for (std::size_t between = before + 1; begun && between < index; ++between) {
      gap |= !is_drawn(series.values[between]) &&
             at.x(series.steps[index]) - at.x(series.steps[before]) > 1.5;
    }
    const std::string here =
        text(place(at.x(series.steps[index])), ' ', place(at.y(series.values[index])));
    path += text(gap ? "M" : "L", here);
    if (gap) path += "h0";  // a dot, if nothing follows
    before = index;
    begun = true;
  }
  return text("<path class=\"", series.style, "\" d=\"", path, "\"/>");
}

std::string dots_of(const ChartSeries& drawn, const Canvas& at) {
  std::string svg;
  for (std::size_t i = 0; i < drawn.steps.size(); ++i) {
    svg += text("<circle class=\"", drawn.style, "\" cx=\"", place(at.x(drawn.steps[i])),
                "\" cy=\"", place(at.y(drawn.values[i])), "\" r=\"3\"/>");
  }
  return svg;
}

std::string marks_of(const std::vector<ChartMark>& marks, const Canvas& at) {
  std::string svg;
  for (const ChartMark& mark : marks) {
    if (mark.step < at.steps.low || mark.step > at.steps.high) continue;
    const double x = at.x(mark.step);
    const double top = mark.style == "skip" ? at.frame.bottom - 12 : at.frame.top;
    svg += text("<line class=\"", mark.style, "\" x1=\"", place(x), "\" y1=\"", place(top),
                "\" x2=\"", place(x), "\" y2=\"", place(at.frame.bottom), "\"><title>",
                markup_safe(mark.words), "</title></line>");
  }
  return svg;
}

}  // namespace

bool is_drawn(double value) { return std::abs(value) < 1e300; }  // not NaN

std::vector<std::size_t> thinned(std::span<const double> steps, std::span<const double> values,
                                 AxisRange range, index_t columns) {
  WEIR_ASSERT(steps.size() == values.size() && columns > 0);
  std::vector<std::size_t> kept;
  const double width = (range.high - range.low) / static_cast<double>(columns);
  for (std::size_t begin = 0; begin < steps.size();) {
    const double column = std::floor((steps[begin] - range.low) / width);
    std::size_t end = begin;
    std::size_t lowest = steps.size(), highest = steps.size();  // none yet
    for (; end < steps.size() && std::floor((steps[end] - range.low) / width) == column; ++end) {
      if (!is_drawn(values[end])) continue;
      if (lowest == steps.size() || values[end] < values[lowest]) lowest = end;
      if (highest == steps.size() || values[end] > values[highest]) highest = end;
    }
    begin = end;
    if (lowest == steps.size()) continue;
    kept.push_back(std::min(lowest, highest));
    if (lowest != highest) kept.push_back(std::max(lowest, highest));
  }
  return kept;
}

std::vector<double> ticks(AxisRange interval, bool logarithmic, int count) {
  std::vector<double> found;
  const double decades = logarithmic ? std::log10(interval.high) - std::log10(interval.low) : 0;
  if (decades > 1) {
    const std::vector<double> factors = decades > 4     ? std::vector<double>{1}
                                        : decades > 1.5 ? std::vector<double>{1, 3}
                                                        : std::vector<double>{1, 2, 5};
    const double every = std::max(1.0, std::ceil(decades / 10));
    for (double power = std::floor(std::log10(interval.low)); power <= std::log10(interval.high);
         power += every) {
      for (const double factor : factors) {
        const double value = factor * std::pow(10.0, power);
        if (interval.low <= value && value <= interval.high) found.push_back(value);
      }
    }
    return found;
  }
  if (logarithmic) count *= 2;  // small values are far apart there
  const double wanted = (interval.high - interval.low) / count;
  if (!(wanted > 0)) return found;
  const double power = std::pow(10.0, std::floor(std::log10(wanted)));
  double apart = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= wanted) apart = factor * power;
  }
  // The ticks are counted, because adding a step to a very large number may change nothing.
  const double first = std::ceil(interval.low / apart);
  for (int i = 0; i <= count; ++i) {
    const double value = (first + i) * apart;
    if (value > interval.high || (!found.empty() && value <= found.back())) break;
    found.push_back(value);
  }
  return found;
}

DrawnChart draw(const Chart& chart, AxisRange steps, const std::vector<ChartMark>& marks,
                const ChartFrame& frame) {
  DrawnChart drawn;
  const AxisRange range = range_of(chart.series);
  WEIR_ASSERT(range.low <= range.high);
  drawn.logarithmic =
      chart.may_be_logarithmic && range.low > 0 && range.high > kLogarithmicFrom * range.low;
  drawn.values = scale_of(range, drawn.logarithmic, chart.from_zero);
  const Canvas at{frame, steps, drawn.values, drawn.logarithmic};
  std::string svg = text("<svg viewBox=\"0 0 ", frame.width, ' ', frame.height,
                         "\" role=\"img\" aria-label=\"", markup_safe(chart.title), "\">");
  svg += axes(chart, at) + marks_of(marks, at);
  for (const ChartSeries& series : chart.series) {
    const auto columns = static_cast<index_t>(frame.right - frame.left);
    const auto kept = thinned(series.steps, series.values, steps, columns);
    if (kept.empty()) continue;
    ChartSeries& shown = drawn.series.emplace_back();
    shown.name = series.name;
    shown.style = series.style;
    for (const std::size_t index : kept) {
      shown.steps.push_back(series.steps[index]);
      shown.values.push_back(series.values[index]);
    }
    svg += series.style == "dots" ? dots_of(shown, at) : path_of(series, kept, at);
  }
  drawn.svg = svg + "</svg>";
  return drawn;
}

std::string markup_safe(const std::string& words) {
  std::string out;
  for (const char byte : safe_text(words)) {
    switch (byte) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += byte;
    }
  }
  return out;
}

}  // namespace weir
