#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/index.hpp"

namespace weir {

/// A start or a resume of a run, as its line in metrics.jsonl tells.
struct RunLife {
  index_t step = 0;                                         ///< the step that it continued from
  double unix_s = 0;                                        ///< when; NaN if the line does not say
  std::string version;                                      ///< weir's
  std::vector<std::pair<std::string, std::string>> layout;  ///< replicas, 2; placement, local; …
};

/// Lines of one kind, one a step. Add lines and cuts in the order of the file, then settle once:
/// its cost and memory grow with what the lines hold, whatever their steps and fields.
class RunLines {
 public:
  using Numbers = std::vector<std::pair<std::string, double>>;

  void add(index_t step, const std::string& skip, const Numbers& numbers);
  /// Lines before this one that are of a later step do not count.
  void cut(index_t step);
  /// If a step has several lines, the last one counts.
  void settle();
  index_t lost_count = 0;  ///< lines that do not count

  std::vector<index_t> steps;      ///< ascending
  std::vector<std::string> skips;  ///< why the step was skipped, empty if it was not

  bool has(const std::string& field) const { return fields_.contains(field); }
  /// The value of a field at each step: NaN if a line has none or does not know it, infinite if it
  /// says so. Throws Error for a field that no line has.
  std::vector<double> column(const std::string& field) const;

 private:
  struct Line {
    index_t step;
    bool is_cut;
    std::string skip;
    std::vector<std::pair<std::uint32_t, double>> numbers;  ///< a field's index, its value
  };
  std::vector<Line> lines_;
  std::map<std::string, std::uint32_t> fields_;
};

/// metrics.jsonl as one run, however often it was resumed: steps that a later life did again
/// replace those of an earlier one.
struct RunLog {
  std::vector<RunLife> lives;
  RunLines steps;
  RunLines validations;
  std::map<std::string, double> summary;      ///< that of the last life; empty while it runs
  std::map<std::string, double> supervision;  ///< what `weir run` wrote after the last life
  bool stopped = false;            ///< the last life ended on request, before its last step
  index_t damaged_line_count = 0;  ///< lines that are no JSON object or too long, except one
                                   ///< that is still being written
};

/// Reads the file as it is now; the run may still be going. Unknown fields and kinds of lines do no
/// harm, nor do lines that weir would never write: only the first 256 numbers of a line count,
/// nested values do not, and a step beyond 2^53 is ignored. The file counts from byte `begin` on.
/// Throws Error if the file cannot be read.
RunLog read_run_log(const std::filesystem::path& metrics_file, index_t begin = 0);

}  // namespace weir
