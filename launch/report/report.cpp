#include "launch/report/report.hpp"

#include <cmath>
#include <ctime>
#include <iostream>
#include <limits>

#include "common/base/error.hpp"
#include "common/base/ini.hpp"
#include "common/base/safe_text.hpp"
#include "common/io/file.hpp"
#include "launch/command.hpp"
#include "launch/report/report_charts.hpp"
#include "launch/run_config.hpp"
#include "launch/terminal/quantities.hpp"

namespace weir {
namespace {

using Rows = std::vector<std::pair<std::string, std::string>>;

constexpr index_t kMarkColumns = 200;

/// The value, NaN if there is none.
double value_of(const std::map<std::string, double>& numbers, const char* name) {
  const auto found = numbers.find(name);
  return found == numbers.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

double newest_of(const RunLines& lines, const char* field) {
  if (lines.steps.empty() || !lines.has(field)) return std::numeric_limits<double>::quiet_NaN();
  return lines.column(field).back();
}

std::string loss_text(double nats, double bits) {
  std::string words = or_unknown(nats, text(fixed(nats, 4), " nats"));
  if (!std::isnan(bits)) words += text(", ", fixed(bits, 4), " bits per byte");
  return words;
}

std::string date_text(double unix_s) {
  if (!(std::abs(unix_s) < 1e11)) return "n/a";
  const auto seconds = static_cast<std::time_t>(unix_s);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char words[32];
  std::strftime(words, sizeof words, "%Y-%m-%d %H:%M:%S UTC", &parts);
  return words;
}

/// Each reason with the number of its steps.
std::string skips_text(const RunLog& log) {
  std::map<std::string, index_t> counts;
  for (const std::string& reason : log.steps.skips) {
    if (!reason.empty()) ++counts[reason];
  }
  std::string words;
  for (const auto& [reason, count] : counts) {
    words += text(words.empty() ? "" : ", ", grouped(count), " ", reason_text(reason));
  }
  return words.empty() ? "none" : words;
}

Rows summary_rows(const RunLog& log) {
  const auto& summary = log.summary;
  const auto either = [&](const char* of_run, const RunLines& lines, const char* newest) {
    const double value = value_of(summary, of_run);
    return std::isnan(value) ? newest_of(lines, newest) : value;
  };
  Rows rows = {{"steps", grouped(log.steps.steps.back())},
               {"skipped steps", skips_text(log)},
               {"loss", loss_text(either("loss", log.steps, "loss"),
                                  either("bits_per_byte", log.steps, "bits_per_byte"))}};
  if (!log.validations.steps.empty()) {
    std::string words =
        loss_text(either("validation_loss", log.validations, "loss"),
                  either("validation_bits_per_byte", log.validations, "bits_per_byte"));
    const double accuracy = either("validation_accuracy", log.validations, "accuracy");
    if (!std::isnan(accuracy)) words += text(", ", fixed(100 * accuracy, 1), " % right");
    rows.emplace_back("validation loss", words);
  }
  const double speed = either("tokens_per_s", log.steps, "tokens_per_s");
  rows.emplace_back("tokens/s", or_unknown(speed, short_count(speed)));
  const double flops = either("flop_fraction", log.steps, "flop_fraction");
  rows.emplace_back("of measured GEMM peak", or_unknown(flops, percent(flops)));
  const double elapsed = either("elapsed_s", log.steps, "elapsed_s");
  rows.emplace_back(log.lives.size() > 1 ? "time since it was resumed" : "time",
                    or_unknown(elapsed, seconds_text(elapsed)));
  for (const auto& [name, field] : {std::pair{"computing", "compute_s"},
                                    {"waiting for servers", "waited_s"},
                                    {"validation", "validation_s"}}) {
    const double seconds = value_of(summary, field);
    if (std::isnan(seconds) || !(elapsed > 0)) continue;
    rows.emplace_back(name, text(seconds_text(seconds), ", ", percent(seconds / elapsed)));
  }
  if (const double busy = value_of(summary, "server_busy_s"); !std::isnan(busy)) {
    const double waited = value_of(summary, "server_waited_s");
    const double time = value_of(summary, "server_busy_imbalance");
    std::string words = text("busy ", seconds_text(busy));
    if (!std::isnan(waited)) words += text(", waiting ", seconds_text(waited));
    if (!std::isnan(time)) {
      words += text("; most over mean: time ", fixed(time, 2), ", bytes ",
                    fixed(value_of(summary, "server_bytes_imbalance"), 2));
    }
    rows.emplace_back("servers", words);
  }
  if (const double bytes = value_of(summary, "peak_memory_bytes"); bytes > 0 && bytes < 1e18) {
    rows.emplace_back("most memory of a rank", bytes_text(static_cast<index_t>(bytes)));
  }
  return rows;
}

/// `name   value` lines of environment.txt.
Rows environment_rows(const fs::path& run) {
  const fs::path path = run / "environment.txt";
  if (!path_exists(path)) return {};
  Rows rows;
  constexpr index_t kBytesMax = 1 << 20;
  const std::string words = read_whole(path, kBytesMax);
  for (std::size_t begin = 0; begin < words.size();) {
    const std::size_t end = std::min(words.find('\n', begin), words.size());
    const std::string line = words.substr(begin, end - begin);
    const std::size_t name_end = std::min(line.find(' '), line.size());
    const std::size_t value = std::min(line.find_first_not_of(' ', name_end), line.size());
    if (!line.empty()) rows.emplace_back(line.substr(0, name_end), line.substr(value));
    begin = end + 1;
  }
  return rows;
}

Rows run_rows(const RunLog& log, const fs::path& run) {
  Rows rows;
  if (!log.lives.empty()) {
    rows.emplace_back("started", date_text(log.lives.front().unix_s));
    constexpr std::size_t kLivesMax = 100;
    const std::size_t first = log.lives.size() > kLivesMax ? log.lives.size() - kLivesMax : 1;
    if (first > 1)
      rows.emplace_back("resumed", text(grouped(static_cast<index_t>(first - 1)), " times before"));
    for (std::size_t life = first; life < log.lives.size(); ++life) {
      rows.emplace_back("resumed", text(date_text(log.lives[life].unix_s), ", at step ",
                                        grouped(log.lives[life].step)));
    }
    std::string layout;
    for (const auto& [name, value] : log.lives.back().layout) {
      layout += text(layout.empty() ? "" : ", ", name, ' ', value);
    }
    rows.emplace_back("layout", layout);
    if (!path_exists(run / "environment.txt")) rows.emplace_back("weir", log.lives.back().version);
  }
  const Rows environment = environment_rows(run);
  rows.insert(rows.end(), environment.begin(), environment.end());
  if (log.damaged_line_count > 0) {
    rows.emplace_back("damaged lines of metrics.jsonl", grouped(log.damaged_line_count));
  }
  return rows;
}

/// What config.ini says otherwise than the defaults of this program.
Rows changed_settings(const fs::path& run) {
  const fs::path path = run / "config.ini";
  if (!path_exists(path)) return {};
  RunConfig standard;
  std::map<std::string, std::string> defaults;
  for (const Setting& setting : parse_options(options(standard), std::nullopt, {}, {})) {
    defaults[setting.name] = setting.value;
  }
  Rows rows;
  for (const IniEntry& entry : read_ini(path.string())) {
    const auto known = defaults.find(entry.name);
    if (known == defaults.end() || known->second != entry.value) {
      rows.emplace_back(entry.name, entry.value);
    }
  }
  return rows;
}

std::string state_text(const RunLog& log) {
  const std::string step = grouped(log.steps.steps.back());
  if (log.summary.empty()) {
    return text("Step ", step,
                " is the newest; there is no summary yet: the run goes on, or it ended early.");
  }
  return log.stopped ? text("Stopped on request after step ", step, ".")
                     : text("Finished after step ", step, ".");
}

}  // namespace

ReportPage report_of(const fs::path& run) {
  if (!is_folder(run)) throw UsageError(text(run.string(), ": there is no such folder"));
  const fs::path metrics = run / "metrics.jsonl";
  if (!path_exists(metrics)) {
    throw Error(text(run.string(), " has no metrics.jsonl; name the run folder of a `weir train`"));
  }
  const RunLog log = read_run_log(metrics);
  if (log.steps.steps.empty()) {
    throw Error(text(metrics.string(), " tells of no step yet; try again when one is done"));
  }
  ReportPage page;
  page.title = text("weir run ", fs::absolute(run).lexically_normal().string());
  page.state = state_text(log);
  page.tables = {{"Summary", summary_rows(log)},
                 {"Run", run_rows(log, run)},
                 {"Settings other than the defaults", changed_settings(run)}};
  page.steps = report_steps(log);
  page.charts = report_charts(log);
  page.marks = report_marks(log, kMarkColumns);
  return page;
}

int report(const Arguments& all) {
  Arguments arguments = all;
  std::string out;
  const std::vector<Option> table = {
      {"out", "", "write the page there instead of RUN/report.html; /dev/stdout: print it", &out},
  };
  if (asks_for_help(arguments)) {
    std::cout << help_of_command(
        "report", "RUN [options]",
        "Draws the metrics.jsonl of a run folder as one HTML page that needs nothing but itself:\n"
        "loss, norm and clip, rate, speed, waiting, traffic and skipped steps. The run may go on.",
        table);
    return 0;
  }
  const fs::path run = take_path("report", "a run folder", table, arguments);
  parse_options(table, std::nullopt, {}, arguments);
  const fs::path file = out.empty() ? run / "report.html" : fs::path(out);
  const ReportPage page = report_of(run);
  const bool is_file = write_output(file, page_text(page));
  // The device or pipe may be this very output: nothing but the page belongs there.
  (is_file ? std::cout : std::cerr)
      << safe_text(text(file.string(), ": ", page.charts.size(), " charts, steps ",
                        grouped(static_cast<index_t>(page.steps.low)), " to ",
                        grouped(static_cast<index_t>(page.steps.high)), '\n'));
  return 0;
}

}  // namespace weir
