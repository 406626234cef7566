#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/number/index.hpp"

namespace weir {

/// A start or a resume of a run, as its line in metrics.jsonl tells.
struct RunLife {
  index_t step = 0;                                         ///< it went on from there
  double unix_s = 0;                                        ///< when; NaN if the line does not say
  std::string version;                                      ///< of weir
  std::vector<std::pair<std::string, std::string>> layout;  ///< replicas, 2; placement, local; …
};

/// Lines of one kind, one a step, ascending: a column for each number that they have.
struct RunLines {
  std::vector<index_t> steps;
  std::vector<std::string> skips;  ///< why the step was skipped, empty if it was not

  bool has(const std::string& field) const { return columns_.contains(field); }
  /// A value a step: NaN where a line has none or does not know it, infinite where it says so.
  /// Throws Error for a field that no line has.
  const std::vector<double>& column(const std::string& field) const;

  /// Of several lines for a step the last counts.
  void add(index_t step, const std::string& skip, const std::map<std::string, double>& numbers);
  /// Forgets all lines after this step.
  void cut(index_t step);

 private:
  std::map<std::string, std::vector<double>> columns_;
};

/// metrics.jsonl as one run, however often it was resumed: what a later life did again replaces
/// what an earlier one did after the step from which the later went on.
struct RunLog {
  std::vector<RunLife> lives;
  RunLines steps;
  RunLines validations;
  std::map<std::string, double> summary;  ///< of the last life; empty while it runs
  bool stopped = false;                   ///< the last life ended on request, before its last step
  index_t damaged_line_count = 0;         ///< lines that are no JSON object, but for one that is
                                          ///< still being written
};

/// Reads the file as it is now: the run may go on. Fields and kinds of lines that nobody here knows
/// do no harm. Throws Error if it cannot be read.
RunLog read_run_log(const std::filesystem::path& metrics_file);

}  // namespace weir
