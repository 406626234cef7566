#pragma once

#include <limits>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/index.hpp"
#include "common/base/text.hpp"

namespace weir::benchmark {

/// Four digits that matter: 1234, 12.34, 0.001234.
std::string short_number(double value);

/// Repeated measurements of one thing: their median, and the quartiles as its spread.
struct Spread {
  double low = 0;  ///< a quarter of the values lies below
  double median = 0;
  double high = 0;  ///< and a quarter above
  index_t count = 0;
};

/// The spread of at least one value. Quartiles interpolate linearly between the sorted values.
Spread spread_of(std::vector<double> values);

/// The spread of repeats that differ on purpose, as seeds do: `median` is their mean, the quartiles
/// are the lowest and the highest. The metric's name has to say so.
Spread mean_of(const std::vector<double>& values);

/// What the caller of a benchmark asks for: --quick (takes seconds and only shows that it still
/// runs), --json FILE (appends), --only WORDS (a part of what there is to measure), --jobs N (how
/// many jobs run at once; at most one a core) and --ps-lite PATH (a build of it to compare with).
/// Ends the program with exit code 2 on anything else. Also gives OpenBLAS the kernels that fit the
/// processor, so call it first of all in main.
struct Options {
  bool quick = false;
  std::string json;
  std::string only;
  index_t jobs = 1;
  std::string ps_lite;
};
Options options_of(int argument_count, char** arguments);

/// Those of the cases whose name() holds the words of --only. Throws Error if there is none.
template <class Case>
std::vector<Case> wanted(std::vector<Case> cases, const Options& options) {
  std::erase_if(
      cases, [&](const Case& one) { return one.name().find(options.only) == std::string::npos; });
  if (cases.empty()) throw Error(text("--only: no case's name holds '", options.only, "'"));
  return cases;
}

/// One result: a metric of a case, beside the limit or the peer it is held against.
struct Result {
  std::string of;      ///< the case: `1 rank`
  std::string metric;  ///< `tokens/s`
  Spread value;
  std::string unit;
  std::string reference_name = "";  ///< `sgemm on 2 cores`; empty: nothing to compare with
  double reference = std::numeric_limits<double>::quiet_NaN();
  double ratio() const { return value.median / reference; }
};

/// Collects results and prints them: question, machine, a table, remarks; and a line of JSON each.
class Report {
 public:
  /// `name` is the program's, `question` what it answers.
  Report(std::string name, std::string question, Options options);

  void add(Result result);
  void remark(std::string line);
  /// Prints the table; appends to the JSON file. Throws Error if that cannot be written.
  void print() const;

 private:
  std::string name_;
  std::string question_;
  Options options_;
  std::vector<Result> results_;
  std::vector<std::string> remarks_;
};

/// CPU, cores, OpenBLAS kernels, host: `AMD EPYC 9R14, 2 cores, OpenBLAS SkylakeX, host n03`.
std::string machine_line();

/// What main of a benchmark does: reads the options, runs it, returns the exit code; says on stderr
/// what went wrong.
int run_program(const char* name, int argument_count, char** arguments,
                void (*run)(const Options&));

}  // namespace weir::benchmark
