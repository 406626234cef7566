#include "launch/report/report_page.hpp"

#include <array>
#include <cstdio>

#include "common/base/text.hpp"
#include "launch/report/report_style.hpp"

namespace weir {
namespace {

/// Seven digits: a float's worth.
std::string number(double value) {
  std::array<char, 32> words{};
  std::snprintf(words.data(), words.size(), "%.7g", value);
  return words.data();
}

/// A JSON string that is harmless inside an element: characters that mean something in JSON or in
/// markup are written \u00xx.
std::string quoted(const std::string& words) {
  std::string out = "\"";
  for (const char byte : words) {
    const auto code = static_cast<unsigned char>(byte);
    if (code < 0x20 || std::string_view("\"\\<>&").find(byte) != std::string_view::npos) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", code);
      out += escape.data();
    } else {
      out += byte;
    }
  }
  return out + "\"";
}

/// [function(each), …]
template <class List, class Function>
std::string array_of(const List& list, const Function& function) {
  std::string out;
  for (const auto& each : list) out += text(out.empty() ? "" : ",", function(each));
  return text("[", out, "]");
}

std::string interval(AxisRange of) { return array_of(std::array{of.low, of.high}, number); }

std::string data_of(const ReportPage& page, const std::vector<DrawnChart>& drawn) {
  std::vector<std::string> charts;
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const auto series = array_of(drawn[i].series, [](const ChartSeries& each) {
      return text("{\"name\":", quoted(each.name), ",\"style\":", quoted(each.style),
                  ",\"steps\":", array_of(each.steps, number),
                  ",\"values\":", array_of(each.values, number), "}");
    });
    charts.push_back(text("{\"title\":", quoted(page.charts[i].title), ",\"unit\":",
                          quoted(page.charts[i].unit), ",\"log\":", drawn[i].logarithmic,
                          ",\"scale\":", interval(drawn[i].values), ",\"series\":", series, "}"));
  }
  const auto marks = array_of(page.marks, [](const ChartMark& mark) {
    return text("{\"step\":", number(mark.step), ",\"words\":", quoted(mark.words), "}");
  });
  const ChartFrame frame;
  return text("{\"steps\":", interval(page.steps), ",\"frame\":{\"width\":", number(frame.width),
              ",\"left\":", number(frame.left), ",\"right\":", number(frame.right),
              ",\"top\":", number(frame.top), ",\"bottom\":", number(frame.bottom),
              "},\"marks\":", marks,
              ",\"charts\":", array_of(charts, [](const std::string& each) { return each; }), "}");
}

std::string table_of(const ReportTable& table) {
  std::string out = text("<section><h2>", markup_safe(table.heading), "</h2><table>\n");
  for (const auto& [name, value] : table.rows) {
    out += text("<tr><th>", markup_safe(name), "</th><td>", markup_safe(value), "</td></tr>\n");
  }
  return out + "</table></section>\n";
}

std::string figure_of(const Chart& chart, const DrawnChart& drawn) {
  std::string legend;
  for (const ChartSeries& series : drawn.series) {
    legend += text("<span class=\"key ", series.style, "\">", markup_safe(series.name), "</span> ");
  }
  const std::string unit =
      chart.unit.empty() ? "" : text(" <small>", markup_safe(chart.unit), "</small>");
  return text("<figure class=\"chart\"><figcaption><b>", markup_safe(chart.title), "</b>", unit,
              drawn.logarithmic ? " <small>(logarithmic)</small>" : "", "<span class=\"legend\">",
              legend, "</span></figcaption>\n", drawn.svg, "\n</figure>\n");
}

}  // namespace

std::string page_text(const ReportPage& page) {
  std::vector<DrawnChart> drawn;
  std::string figures;
  for (const Chart& chart : page.charts) {
    drawn.push_back(draw(chart, page.steps, page.marks));
    figures += figure_of(chart, drawn.back());
  }
  std::string tables;
  for (const ReportTable& table : page.tables) {
    if (!table.rows.empty()) tables += table_of(table);
  }
  const std::string title = markup_safe(page.title);
  return text(
      "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n"
      "<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
      title, "</title>\n<style>", kReportStyle, "</style>\n</head>\n<body>\n<h1>", title,
      "</h1>\n<p>", markup_safe(page.state), "</p>\n<div class=\"tables\">\n", tables,
      "</div>\n<div class=\"charts\">\n", figures,
      "</div>\n<div id=\"tip\" hidden=\"hidden\"></div>\n"
      "<script type=\"application/json\" id=\"data\">",
      data_of(page, drawn), "</script>\n<script>//<![CDATA[\n", kReportScript,
      "//]]></script>\n</body>\n</html>\n");
}

}  // namespace weir
