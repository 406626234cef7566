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
#include "launch/report/schedule_comparison.hpp"
#include "launch/run_config.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/summary.hpp"

namespace weir {
namespace {

constexpr index_t kMarkColumns = 200;

/// The value; NaN if there is none.
double value_of(const std::map<std::string, double>& numbers, const char* name) {
  const auto found = numbers.find(name);
  return found == numbers.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

double newest_of(const RunLines& lines, const char* field) {
  if (lines.steps.empty() || !lines.has(field)) return std::numeric_limits<double>::quiet_NaN();
  return lines.column(field).back();
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

/// Each reason for skips with the number of its steps.
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

/// The summary of the last life; for a run that is still going, what its newest lines say.
SummaryMetrics summary_of(const RunLog& log) {
  const auto of_summary = [&](const char* field) { return value_of(log.summary, field); };
  const auto either = [&](const char* field, const RunLines& lines, const char* of_line) {
    const double value = of_summary(field);
    return std::isnan(value) ? newest_of(lines, of_line) : value;
  };
  const auto count = [&](const char* field) {
    const double value = of_summary(field);
    return value > 0 && value < 1e18 ? static_cast<index_t>(value) : 0;
  };
  SummaryMetrics metrics;
  metrics.loss = either("loss", log.steps, "loss");
  metrics.bits_per_byte = either("bits_per_byte", log.steps, "bits_per_byte");
  metrics.validation_loss = either("validation_loss", log.validations, "loss");
  metrics.validation_bits_per_byte =
      either("validation_bits_per_byte", log.validations, "bits_per_byte");
  metrics.validation_accuracy = either("validation_accuracy", log.validations, "accuracy");
  metrics.tokens_per_second = either("tokens_per_s", log.steps, "tokens_per_s");
  metrics.flop_fraction = either("flop_fraction", log.steps, "flop_fraction");
  metrics.elapsed_seconds = either("elapsed_s", log.steps, "elapsed_s");
  metrics.compute_seconds = of_summary("compute_s");
  metrics.waited_seconds = of_summary("waited_s");
  metrics.validation_seconds = of_summary("validation_s");
  metrics.checkpoint_seconds = of_summary("checkpoint_s");
  metrics.checkpoint_count = count("checkpoint_count");
  metrics.peak_memory_bytes = count("peak_memory_bytes");
  metrics.servers = {.busy_seconds = of_summary("server_busy_s"),
                     .waited_seconds = of_summary("server_waited_s"),
                     .busy_imbalance = of_summary("server_busy_imbalance"),
                     .bytes_imbalance = of_summary("server_bytes_imbalance")};
  return metrics;
}

Rows rows_of_summary(const RunLog& log) {
  Rows rows = {{"steps", grouped(log.steps.steps.back())}, {"skipped steps", skips_text(log)}};
  for (auto& [name, value] : summary_rows(summary_of(log))) {
    if (name == "validation loss" && log.validations.steps.empty()) continue;
    if (name == "time" && log.lives.size() > 1) name = "time since it was resumed";
    rows.emplace_back(name.substr(name.find_first_not_of(' ')), value);
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

/// What failures have cost, if `weir run` has written it.
std::string supervision_text(const RunLog& log) {
  const auto count = [&](const char* field) {
    const double value = value_of(log.supervision, field);
    return value > 0 && value < 1e18 ? static_cast<index_t>(value) : 0;
  };
  return supervision_text(
      SupervisionMetrics{.restart_count = count("restarts"),
                         .lost_step_count = count("lost_steps"),
                         .productive_seconds = value_of(log.supervision, "productive_s"),
                         .wall_seconds = value_of(log.supervision, "wall_s")});
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
    if (!log.supervision.empty()) rows.emplace_back("under weir run", supervision_text(log));
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

/// The settings in config.ini that differ from the defaults of this program.
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
    throw Error(text(metrics.string(), " holds no step yet; try again when one is done"));
  }
  ReportPage page;
  page.title = text("weir run ", fs::absolute(run).lexically_normal().string());
  page.state = state_text(log);
  page.tables = {{"Summary", rows_of_summary(log)},
                 {"Run", run_rows(log, run)},
                 {"Settings other than the defaults", changed_settings(run)}};
  if (const Rows rows = schedule_rows(run); !rows.empty()) {
    page.tables.push_back({"Schedule: planned from measured times, and real", rows});
  }
  page.steps = report_steps(log);
  page.charts = report_charts(log);
  page.marks = report_marks(log, kMarkColumns);
  return page;
}

int report(const Arguments& all) {
  Arguments arguments = all;
  std::string out;
  const std::vector<Option> table = {
      {"out", "", "write the page to this file instead of RUN/report.html; /dev/stdout prints it",
       &out},
  };
  if (asks_for_help(arguments)) {
    std::cout << help_of_command(
        "report", "RUN [options]",
        "Draws the metrics.jsonl of a run folder as one HTML page that needs no other file: loss,\n"
        "norm and clip, rate, speed, waiting, traffic and skipped steps. The run may still be "
        "going.",
        table);
    return 0;
  }
  const fs::path run = take_path("report", "a run folder", table, arguments);
  parse_options(table, std::nullopt, {}, arguments);
  const fs::path file = out.empty() ? run / "report.html" : fs::path(out);
  const ReportPage page = report_of(run);
  const bool is_file = write_output(file, page_text(page));
  // The device or pipe may be stdout itself, which must then get nothing but the page.
  (is_file ? std::cout : std::cerr)
      << safe_text(text(file.string(), ": ", page.charts.size(), " charts, steps ",
                        grouped(static_cast<index_t>(page.steps.low)), " to ",
                        grouped(static_cast<index_t>(page.steps.high)), '\n'));
  return 0;
}

}  // namespace weir
