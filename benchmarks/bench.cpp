#include "benchmarks/bench.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "common/base/machine.hpp"
#include "launch/terminal/table.hpp"
#include "worker/kernels/cpu/blas.hpp"

namespace weir::benchmark {
std::string short_number(double value) {
  if (std::isnan(value)) return "n/a";
  char buffer[32];
  if (std::abs(value) >= 1000) {
    std::snprintf(buffer, sizeof buffer, "%.0f", value);
  } else {
    std::snprintf(buffer, sizeof buffer, "%.4g", value);
  }
  return buffer;
}

Spread spread_of(std::vector<double> values) {
  WEIR_ASSERT(!values.empty());
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return std::lerp(values[below], values[above], place - std::floor(place));
  };
  return {at(0.25), at(0.5), at(0.75), static_cast<index_t>(values.size())};
}

Spread mean_of(const std::vector<double>& values) {
  WEIR_ASSERT(!values.empty());
  const auto [low, high] = std::ranges::minmax_element(values);
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {*low, sum / static_cast<double>(values.size()), *high, std::ssize(values)};
}

Options options_of(int argument_count, char** arguments) {
  ensure_blas_core(argument_count, arguments);
  Options options;
  for (int i = 1; i < argument_count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--quick") {
      options.quick = true;
    } else if (argument == "--json" && i + 1 < argument_count) {
      options.json = arguments[++i];
    } else if (argument == "--only" && i + 1 < argument_count) {
      options.only = arguments[++i];
    } else if (argument == "--jobs" && i + 1 < argument_count) {
      const std::string number = arguments[++i];
      const auto [end, code] =
          std::from_chars(number.data(), number.data() + number.size(), options.jobs);
      if (code != std::errc() || end != number.data() + number.size() || options.jobs < 1) {
        std::cerr << arguments[0] << ": --jobs wants a number from 1 on, not '" << number << "'\n";
        std::exit(2);
      }
      options.jobs = std::min<index_t>(options.jobs, core_count());
    } else if (argument == "--ps-lite" && i + 1 < argument_count) {
      options.ps_lite = arguments[++i];
    } else {
      std::cerr << arguments[0]
                << " [--quick] [--json FILE] [--only WORDS] [--jobs N] [--ps-lite PATH]\n";
      std::exit(2);
    }
  }
  return options;
}

Report::Report(std::string name, std::string question, Options options)
    : name_(std::move(name)), question_(std::move(question)), options_(std::move(options)) {
  std::cout << name_ << ": " << question_ << "\n  machine: " << machine_line()
            << (options_.quick ? "\n  quick: the figures mean little" : "") << std::endl;
}

void Report::add(Result result) { results_.push_back(std::move(result)); }

void Report::remark(std::string line) { remarks_.push_back(std::move(line)); }

void Report::print() const {
  Table table("llrrlrlr",
              {"case", "metric", "median", "quartiles", "unit", "limit or peer", "", "ratio"});
  for (const Result& result : results_) {
    const Spread& value = result.value;
    const bool compared = !result.reference_name.empty();
    table.add(
        {result.of, result.metric, short_number(value.median),
         value.count > 1 ? text(short_number(value.low), " … ", short_number(value.high)) : "",
         result.unit, compared ? short_number(result.reference) : "", result.reference_name,
         compared ? short_number(result.ratio()) : ""});
  }
  std::cout << table.to_text();
  for (const std::string& line : remarks_) std::cout << "  " << line << '\n';
  std::cout << std::endl;

  if (options_.json.empty()) return;
  std::ofstream file(options_.json, std::ios::app);
  for (const Result& result : results_) {
    nlohmann::ordered_json line = {{"benchmark", name_},
                                   {"case", result.of},
                                   {"metric", result.metric},
                                   {"value", result.value.median},
                                   {"unit", result.unit},
                                   {"reference", result.reference},  // NaN becomes null
                                   {"ratio", result.ratio()},
                                   {"low", result.value.low},
                                   {"high", result.value.high},
                                   {"repeats", result.value.count},
                                   {"reference_name", result.reference_name},
                                   {"quick", options_.quick},
                                   {"machine", machine_line()}};
    file << line.dump() << '\n';
  }
  file.flush();
  if (!file) throw Error(text("cannot write ", options_.json));
}

std::string machine_line() {
  return text(cpu_name(), ", ", core_count(), " cores, OpenBLAS ", blas_core(), ", host ",
              host_name());
}

int run_program(const char* name, int argument_count, char** arguments,
                void (*run)(const Options&)) {
  const Options options = options_of(argument_count, arguments);
  try {
    run(options);
  } catch (const std::exception& error) {
    std::cerr << name << ": " << error.what() << std::endl;
    return 1;
  }
  return 0;
}

}  // namespace weir::benchmark
