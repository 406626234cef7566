#include "launch/report/chart.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "launch/report/report_charts.hpp"

namespace weir {
namespace {

TEST_CASE("thinning keeps the lowest and the highest of every column of pixels, and no more") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  constexpr index_t kColumns = 100;
  for (const std::size_t count : {1, 2, 99, 100, 101, 5000}) {
    CAPTURE(count);
    std::vector<double> steps, values;
    for (std::size_t i = 0; i < count; ++i) {
      steps.push_back(static_cast<double>(3 * i));
      const bool finite = random() % 10 != 0;
      values.push_back(finite ? static_cast<double>(random() % 1000) : std::nan(""));
    }
    const AxisRange range{0, std::max(1.0, steps.back())};
    const auto kept = thinned(steps, values, range, kColumns);
    CHECK(std::ranges::is_sorted(kept));
    CHECK(std::set(kept.begin(), kept.end()).size() == kept.size());
    CHECK(kept.size() <= 2 * (kColumns + 1));  // the last step begins a column of its own
    // The truth, element by element.
    for (index_t column = 0; column <= kColumns; ++column) {
      const auto inside = [&](std::size_t i) {
        return std::floor(steps[i] / (range.high / kColumns)) == double(column);
      };
      double low = INFINITY, high = -INFINITY, kept_low = INFINITY, kept_high = -INFINITY;
      for (std::size_t i = 0; i < count; ++i) {
        if (!inside(i) || std::isnan(values[i])) continue;
        low = std::min(low, values[i]);
        high = std::max(high, values[i]);
      }
      for (const std::size_t i : kept) {
        if (!inside(i)) continue;
        kept_low = std::min(kept_low, values[i]);
        kept_high = std::max(kept_high, values[i]);
      }
      CHECK(kept_low == low);
      CHECK(kept_high == high);
    }
  }
}

TEST_CASE("ticks are round, inside, ascending and few, for any interval") {
  for (const AxisRange interval :
       {AxisRange{0, 1}, {0.93, 5.6}, {-3, 400}, {1e-7, 1.1e-7}, {0, 1e9}}) {
    const auto found = ticks(interval, false, 5);
    CAPTURE(interval.high);
    CHECK(found.size() >= 2);
    CHECK(found.size() <= 6);
    for (const double value : found) {
      CHECK(value >= interval.low);
      CHECK(value <= interval.high);
    }
    const double apart = found[1] - found[0];
    const double mantissa = apart / std::pow(10.0, std::floor(std::log10(apart) + 1e-9));
    CHECK((std::abs(mantissa - 1) < 1e-6 || std::abs(mantissa - 2) < 1e-6 ||
           std::abs(mantissa - 5) < 1e-6));
  }
  CHECK(ticks({0.8, 130}, true, 5) == std::vector<double>{1, 3, 10, 30, 100});
  CHECK(ticks({1.1, 6.2}, true, 5) == std::vector<double>{2, 3, 4, 5, 6});
  CHECK(ticks({1, 5e30}, true, 5).size() <= 11);
}

TEST_CASE("ticks of absurd intervals are few, too") {
  // Where numbers are so large that adding one changes nothing, counting on would never end.
  for (const AxisRange interval : {AxisRange{9.2e18, 9.2e18 + 4096},
                                   {0x1p53, 0x1p53 + 2},
                                   {1e299, 1e299 * (1 + 1e-15)},
                                   {-1e300, 1e300},
                                   {5, 5}}) {
    CAPTURE(interval.low);
    const auto found = ticks(interval, false, 5);
    CHECK(found.size() <= 7);
    CHECK(std::ranges::is_sorted(found));
  }
  CHECK(ticks({1e-320, 1e299}, true, 5).size() <= 40);
}

TEST_CASE("a chart of values from one end of the numbers to the other has finite places") {
  Chart chart;
  chart.may_be_logarithmic = true;
  chart.series.push_back({"x", "first", {1, 2, 3}, {1e-320, 1, 9e299}});
  const DrawnChart drawn = draw(chart, {1, 3}, {});
  CHECK(drawn.svg.find("nan") == std::string::npos);
  CHECK(drawn.svg.find("inf") == std::string::npos);
}

TEST_CASE("a chart is logarithmic only where that helps and is possible") {
  const auto is_logarithmic = [](std::vector<double> values) {
    Chart chart;
    chart.may_be_logarithmic = true;
    chart.series.push_back({"x", "first", {1, 2, 3}, std::move(values)});
    return draw(chart, {1, 3}, {}).logarithmic;
  };
  CHECK(is_logarithmic({1, 10, 1000}));
  CHECK_FALSE(is_logarithmic({1, 2, 3.9}));
  CHECK_FALSE(is_logarithmic({0, 10, 1000}));
  CHECK_FALSE(is_logarithmic({-1, 10, 1000}));
  CHECK_FALSE(is_logarithmic({2, 2, 2}));
}

TEST_CASE("what is not finite is a gap in the line, and a lone value between gaps a dot") {
  const double nan = std::nan("");
  Chart chart;
  chart.series.push_back({"x", "first", {0, 1, 2, 3, 4, 5}, {1, 2, nan, 3, INFINITY, 2}});
  const DrawnChart drawn = draw(chart, {0, 5}, {});
  REQUIRE(drawn.series.size() == 1);
  CHECK(drawn.series[0].steps == std::vector<double>{0, 1, 3, 5});
  CHECK(drawn.series[0].values == std::vector<double>{1, 2, 3, 2});
  // Three strokes: 0-1, 3 and 5, each with a move of its own.
  const std::size_t begin = drawn.svg.find(" d=\"");
  const std::string path = drawn.svg.substr(begin, drawn.svg.find('"', begin + 4) - begin);
  CHECK(std::ranges::count(path, 'M') == 3);
  CHECK(std::ranges::count(path, 'L') == 1);
  CHECK(drawn.svg.find("nan") == std::string::npos);
  CHECK(drawn.svg.find("inf") == std::string::npos);
}

TEST_CASE("values lie where the scale says, and huge ones end no scale") {
  Chart chart;
  chart.from_zero = true;
  chart.series.push_back({"x", "dots", {0, 10}, {0, 1.7e308}});
  chart.series.push_back({"y", "dots", {0, 10}, {10, 0}});
  const ChartFrame frame;
  const DrawnChart drawn = draw(chart, {0, 10}, {}, frame);
  CHECK(drawn.values.low == 0);
  CHECK(drawn.values.high == doctest::Approx(10.5));
  CHECK(drawn.svg.find("cx=\"660.0\" cy=\"228.0\"") !=
        std::string::npos);  // (10, 0): right, bottom
}

TEST_CASE(
    "the mean over neighbours leaves out what is not finite, and an outlier leaves no trace") {
  std::vector<double> values(50, 2.0);
  values[10] = 1e30;
  values[20] = std::nan("");
  const auto means = smoothed(values, 5);
  CHECK(means[7] == 2);
  CHECK(means[9] > 1e29);
  CHECK(means[20] == 2);
  CHECK(means[49] == 2);
  CHECK(std::isnan(smoothed({std::nan("")}, 5)[0]));
}

TEST_CASE("markup, control characters and damaged UTF-8 of other files do no harm in a page") {
  CHECK(markup_safe("a<b> & \"c\"") == "a&lt;b&gt; &amp; &quot;c&quot;");
  CHECK(markup_safe(std::string("x\x01\xffy")) == "x\\x01\\xffy");
  CHECK(markup_safe("\u00e4") == "\u00e4");
}

}  // namespace
}  // namespace weir
