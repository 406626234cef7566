#include "launch/run/run_log.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/base/error.hpp"
#include "common/io/line_file.hpp"

namespace weir {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr std::size_t kLineBytesMax = std::size_t{4} << 20;  // norms of 10,000 layers take 0.4 MB
constexpr std::size_t kNumbersMax = 256;  // numbers read of a line; weir writes some 30
constexpr std::size_t kLayoutMax = 32;
constexpr std::int64_t kStepMax = std::int64_t{1} << 53;  // beyond it a double is not exact

/// Takes from one line what a report may use, while the parser reads it: so nothing nested is ever
/// built, however deep.
class LineReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  index_t step = -1;  ///< -1: none
  std::string kind, skip, version;
  bool stopped = false;
  RunLines::Numbers numbers;
  std::vector<std::pair<std::string, std::string>> layout;

  /// Whether `line` is a JSON object.
  bool read(std::string_view line) {
    *this = LineReader();
    const bool whole = nlohmann::json::sax_parse(line.begin(), line.end(), this);
    if (!whole || !is_object_) return false;
    // See MetricsFile: null is a number that is not finite if `<key>_state` says so; otherwise it
    // is unknown.
    for (const auto& [name, value] : states_) {
      for (auto& [field, number] : numbers) {
        if (field == name && std::isnan(number)) number = value;
      }
    }
    return true;
  }

  bool null() override { return number(kNan, ""); }
  bool boolean(bool value) override {
    if (depth_ == 1 && key_ == "stopped") stopped = value;
    return number(value ? 1 : 0, value ? "true" : "false");
  }
  bool number_integer(std::int64_t value) override {
    if (depth_ == 1 && key_ == "step") step = 0 <= value && value <= kStepMax ? value : -1;
    return number(static_cast<double>(value), text(value));
  }
  bool number_unsigned(std::uint64_t value) override {
    if (value <= std::uint64_t(kStepMax)) return number_integer(static_cast<std::int64_t>(value));
    return number(static_cast<double>(value), text(value));
  }
  bool number_float(double value, const std::string&) override {
    return number(value, text(value));
  }
  bool string(std::string& value) override {
    if (in_layout_ && depth_ == 2) add_layout(value);
    if (depth_ != 1) return true;
    if (key_ == "kind") kind = value;
    if (key_ == "skip") skip = value == "none" ? "" : value;
    if (key_ == "version") version = value;
    constexpr std::string_view kState = "_state";
    if (key_.ends_with(kState) && states_.size() < kNumbersMax) {
      const double is = value == "inf" ? kInfinity : value == "-inf" ? -kInfinity : kNan;
      states_.emplace_back(key_.substr(0, key_.size() - kState.size()), is);
    }
    return true;
  }
  bool binary(nlohmann::json::binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    if (depth_ == 0) is_object_ = true;
    if (depth_ == 1) in_layout_ = key_ == "layout";
    ++depth_;
    return true;
  }
  bool key(std::string& name) override {
    if (depth_ == 1) key_ = name;
    if (depth_ == 2) inner_key_ = name;
    return true;
  }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override {
    if (depth_ == 1) in_layout_ = false;
    ++depth_;
    return true;
  }
  bool end_array() override { return leave(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool leave() {
    --depth_;
    return true;
  }
  bool number(double value, const std::string& words) {
    if (in_layout_ && depth_ == 2) add_layout(words);
    if (depth_ == 1 && is_object_ && numbers.size() < kNumbersMax)
      numbers.emplace_back(key_, value);
    return true;
  }
  void add_layout(const std::string& words) {
    if (layout.size() < kLayoutMax) layout.emplace_back(inner_key_, words);
  }

  index_t depth_ = 0;
  bool is_object_ = false;
  bool in_layout_ = false;  ///< true at depth 2 and below
  std::string key_, inner_key_;
  RunLines::Numbers states_;
};

RunLife life_of(const LineReader& line) {
  RunLife life = {line.step, kNan, line.version, line.layout};
  for (const auto& [name, value] : line.numbers) {
    if (name == "unix_s") life.unix_s = value;
  }
  return life;
}

void take(RunLog& log, const LineReader& line) {
  if (line.step < 0) return;
  if (line.kind == "start") {
    log.steps.cut(line.step);
    log.validations.cut(line.step);
    log.summary.clear();
    log.supervision.clear();
    log.stopped = false;
    log.lives.push_back(life_of(line));
  } else if (line.kind == "step") {
    log.steps.add(line.step, line.skip, line.numbers);
  } else if (line.kind == "validation") {
    log.validations.add(line.step, "", line.numbers);
  } else if (line.kind == "summary") {
    log.summary.clear();
    for (const auto& [name, value] : line.numbers) log.summary[name] = value;
    log.stopped = line.stopped;
  } else if (line.kind == "supervision") {
    for (const auto& [name, value] : line.numbers) log.supervision[name] = value;
  }
}

}  // namespace

void RunLines::add(index_t step, const std::string& skip, const Numbers& numbers) {
  Line& line = lines_.emplace_back(Line{step, false, skip, {}});
  line.numbers.reserve(numbers.size());
  for (const auto& [name, value] : numbers) {
    if (name == "step") continue;
    const auto field = fields_.emplace(name, static_cast<std::uint32_t>(fields_.size())).first;
    line.numbers.emplace_back(field->second, value);
  }
}

void RunLines::cut(index_t step) { lines_.push_back({step, true, "", {}}); }

void RunLines::settle() {
  const index_t line_count = std::ranges::count(lines_, false, &Line::is_cut);
  // Read from the end, because later lines decide whether a line counts.
  std::vector<Line> kept;
  index_t last_step = std::numeric_limits<index_t>::max();
  for (auto line = lines_.rbegin(); line != lines_.rend(); ++line) {
    if (line->is_cut) {
      last_step = std::min(last_step, line->step);
    } else if (line->step <= last_step) {
      kept.push_back(std::move(*line));
    }
  }
  std::ranges::stable_sort(kept, {}, &Line::step);  // the newest of a step comes first
  const auto repeated = std::ranges::unique(kept, {}, &Line::step);
  kept.erase(repeated.begin(), repeated.end());
  lost_count = line_count - static_cast<index_t>(kept.size());
  lines_ = std::move(kept);
  for (const Line& line : lines_) {
    steps.push_back(line.step);
    skips.push_back(line.skip);
  }
}

std::vector<double> RunLines::column(const std::string& field) const {
  const auto found = fields_.find(field);
  if (found == fields_.end()) throw Error(text("no line has a field ", field));
  std::vector<double> values;
  values.reserve(lines_.size());
  for (const Line& line : lines_) {
    double& value = values.emplace_back(kNan);
    for (const auto& [index, number] : line.numbers) {
      if (index == found->second) value = number;
    }
  }
  return values;
}

RunLog read_run_log(const std::filesystem::path& metrics_file, index_t begin) {
  LineFile file(metrics_file, kLineBytesMax, begin);
  RunLog log;
  LineReader line;
  for (LineState state; (state = file.next()) != LineState::none;) {
    const std::string& words = file.line();
    bool is_object = line.read(words);
    if (!is_object || state == LineState::too_long) {
      if (!words.empty() && state != LineState::cut_off) ++log.damaged_line_count;
      // The next life begins its lines behind the half line at which the previous one died.
      const auto begin = words.rfind("{\"kind\"");
      is_object = begin != std::string::npos && line.read(std::string_view(words).substr(begin));
    }
    if (is_object) take(log, line);
  }
  log.steps.settle();
  log.validations.settle();
  return log;
}

}  // namespace weir
