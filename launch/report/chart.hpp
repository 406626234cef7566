#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir {

/// Whether a value can be drawn: it is a number, and no scale that holds it overflows.
bool is_drawn(double value);

/// Something that is drawn over the steps of a run.
struct ChartSeries {
  std::string name;
  std::string style;  ///< a class of the page: `first`, `second`, `third`, `faint` or `dots`
  std::vector<double> steps;   ///< ascending
  std::vector<double> values;  ///< one a step; a gap where it cannot be drawn
};

/// Something that happened at a step.
struct ChartMark {
  double step = 0;
  std::string style;  ///< a class of the page: `skip` or `resume`
  std::string words;
};

struct Chart {
  std::string title;
  std::string unit;
  bool from_zero = false;
  bool may_be_logarithmic = false;  ///< it is where the values, all above 0, span a factor of 4
  /// A second scale on the right: values times this factor; 0: none.
  double right_factor = 0;
  std::string right_unit;
  std::vector<ChartSeries> series;
};

struct AxisRange {
  double low = 0;
  double high = 1;
};

/// A chart as an SVG element, and what a script needs to know of it: which value lies where.
struct DrawnChart {
  std::string svg;
  std::vector<ChartSeries> series;  ///< the values that are drawn, without gaps
  AxisRange values;                 ///< bottom and top of the scale
  bool logarithmic = false;
};

/// Where the values are drawn in an SVG element, in its own units.
struct ChartFrame {
  double width = 720, height = 260;
  double left = 64, right = 660, top = 18, bottom = 228;
};

/// The indices of the values to draw in `columns` columns of pixels over `range`: the lowest and
/// the highest of each column, so that no spike is lost. Values that cannot be drawn are left out.
std::vector<std::size_t> thinned(std::span<const double> steps, std::span<const double> values,
                                 AxisRange range, index_t columns);

/// About `count` round numbers in the interval, 1, 2 or 5 times a power of ten apart. On a
/// logarithmic scale over more than a decade they are such numbers themselves.
std::vector<double> ticks(AxisRange interval, bool logarithmic, int count);

/// Draws the chart over these steps. Series that cannot be drawn at all are left out; at least one
/// can be drawn.
DrawnChart draw(const Chart& chart, AxisRange steps, const std::vector<ChartMark>& marks,
                const ChartFrame& frame = {});

/// The words as HTML and XML may hold them: without markup, control characters and damaged UTF-8.
std::string markup_safe(const std::string& words);

}  // namespace weir
