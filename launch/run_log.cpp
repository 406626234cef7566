#include "launch/run_log.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/base/error.hpp"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// See MetricsFile: null is a number that is not finite if `<key>_state` says so, else unknown.
double number_of(const Json& line, const std::string& key) {
  const Json& value = line[key];
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (value.is_number()) return value.get<double>();
  const auto state = line.find(key + "_state");
  if (state == line.end() || !state->is_string()) return kNan;
  return *state == "inf" ? kInfinity : *state == "-inf" ? -kInfinity : kNan;
}

std::map<std::string, double> numbers_of(const Json& line) {
  std::map<std::string, double> numbers;
  for (const auto& [key, value] : line.items()) {
    if (value.is_number() || value.is_boolean() || value.is_null()) {
      numbers[key] = number_of(line, key);
    }
  }
  return numbers;
}

std::string words_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

RunLife life_of(const Json& line, index_t step) {
  RunLife life;
  life.step = step;
  const auto numbers = numbers_of(line);
  life.unix_s = numbers.contains("unix_s") ? numbers.at("unix_s") : kNan;
  if (line.contains("version")) life.version = words_of(line["version"]);
  if (line.contains("layout") && line["layout"].is_object()) {
    for (const auto& [key, value] : line["layout"].items()) {
      life.layout.emplace_back(key, words_of(value));
    }
  }
  return life;
}

/// The step of a line, -1 if it has none.
index_t step_of(const Json& line) {
  const auto step = line.find("step");
  if (step == line.end() || !step->is_number_integer()) return -1;
  return std::max<index_t>(-1, step->get<index_t>());
}

void take(RunLog& log, const Json& line) {
  const index_t step = step_of(line);
  const auto kind = line.find("kind");
  if (step < 0 || kind == line.end()) return;
  if (*kind == "start") {
    log.steps.cut(step);
    log.validations.cut(step);
    log.summary.clear();
    log.stopped = false;
    log.lives.push_back(life_of(line, step));
  } else if (*kind == "step") {
    const auto skip = line.find("skip");
    const bool skipped = skip != line.end() && skip->is_string() && *skip != "none";
    log.steps.add(step, skipped ? skip->get<std::string>() : "", numbers_of(line));
  } else if (*kind == "validation") {
    log.validations.add(step, "", numbers_of(line));
  } else if (*kind == "summary") {
    log.summary = numbers_of(line);
    log.stopped = line.contains("stopped") && line["stopped"] == true;
  }
}

}  // namespace

const std::vector<double>& RunLines::column(const std::string& field) const {
  const auto found = columns_.find(field);
  if (found == columns_.end()) throw Error(text("no line has a field ", field));
  return found->second;
}

void RunLines::add(index_t step, const std::string& skip,
                   const std::map<std::string, double>& numbers) {
  const auto place = std::ranges::lower_bound(steps, step) - steps.begin();
  const auto row = static_cast<std::size_t>(place);
  if (row == steps.size() || steps[row] != step) {
    steps.insert(steps.begin() + place, step);
    skips.insert(skips.begin() + place, "");
    for (auto& [field, column] : columns_) column.insert(column.begin() + place, kNan);
  }
  skips[row] = skip;
  for (auto& [field, column] : columns_) column[row] = kNan;
  for (const auto& [field, value] : numbers) {
    if (field == "step") continue;
    auto& column = columns_[field];
    column.resize(steps.size(), kNan);  // if it is new
    column[row] = value;
  }
}

void RunLines::cut(index_t step) {
  const auto kept = static_cast<std::size_t>(std::ranges::upper_bound(steps, step) - steps.begin());
  steps.resize(kept);
  skips.resize(kept);
  for (auto& [field, column] : columns_) column.resize(kept);
}

RunLog read_run_log(const std::filesystem::path& metrics_file) {
  std::ifstream file(metrics_file);
  if (!file) {
    throw Error(text("cannot read ", metrics_file.string(), ": ", std::strerror(errno)));
  }
  RunLog log;
  for (std::string words; std::getline(file, words);) {
    const bool is_cut_off = file.eof();  // no end of line: somebody is writing it, or died then
    Json line = Json::parse(words, nullptr, false);
    if (!line.is_object()) {
      if (!words.empty() && !is_cut_off) ++log.damaged_line_count;
      // The next life begins its lines behind half a line that somebody died over.
      const auto begin = words.rfind("{\"kind\"");
      if (begin != std::string::npos) line = Json::parse(words.substr(begin), nullptr, false);
    }
    if (line.is_object()) take(log, line);
  }
  return log;
}

}  // namespace weir
