#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/report/chart.hpp"

namespace weir {

/// Rows of a name and a value under a heading.
struct ReportTable {
  std::string heading;
  std::vector<std::pair<std::string, std::string>> rows;
};

/// What a report shows.
struct ReportPage {
  std::string title;
  std::string state;  ///< how far the run is, in a sentence
  std::vector<ReportTable> tables;
  AxisRange steps;
  std::vector<Chart> charts;
  std::vector<ChartMark> marks;
};

/// One HTML page, which is well-formed XML, too, and needs no network and no other file. It can be
/// read without its script, which adds the values under the pointer. The element with the id `data`
/// holds what is drawn as JSON:
///
///   {"steps": [first, last], "charts": [{"title", "unit", "series": [{"name", "steps": […],
///    "values": […]}], …}], "marks": [{"step", "words"}], …}
std::string page_text(const ReportPage& page);

}  // namespace weir
