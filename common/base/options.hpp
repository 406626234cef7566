#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/index.hpp"

namespace weir {

/// Inclusive bounds of a number.
struct Range {
  double low = -std::numeric_limits<double>::max();
  double high = std::numeric_limits<double>::max();
};

/// One of a closed list of words, stored in an enum of the room's own. Made by choice().
struct Choice {
  std::vector<std::string> names;               ///< what a user may write, in the enum's order
  std::function<std::string()> get;             ///< the name of the current value
  std::function<void(const std::string&)> set;  ///< the argument is one of `names`
};

template <class Enum>
Choice choice(Enum& field, std::vector<std::pair<std::string, Enum>> names) {
  Choice result;
  for (const auto& [name, value] : names) result.names.push_back(name);
  result.get = [&field, names] {
    for (const auto& [name, value] : names) {
      if (value == field) return name;
    }
    return std::string();
  };
  result.set = [&field, names](const std::string& text) {
    for (const auto& [name, value] : names) {
      if (name == text) field = value;
    }
  };
  return result;
}

/// What a setting is about.
enum class Scope {
  run,       ///< how this run learns: its length, data, layout, optimizer
  function,  ///< which function the weights are: another value would make them another model
  machine,   ///< one start on this machine: folders, threads, what is shown
};

/// One setting, said once: help text, file, environment, command line, `config.ini` of the run
/// folder and range check all come from this row. The field holds the default beforehand.
struct Option {
  std::string name;  ///< `steps`, `clip.policy`: --clip.policy, [clip] policy=, WEIR_CLIP_POLICY
  std::string unit;  ///< what a number counts: `bytes`, `s`; empty if it has none
  std::string help;  ///< one sentence
  std::variant<bool*, index_t*, double*, std::string*, Choice> field;
  Range range = {};
  Scope scope = Scope::run;  ///< with the values that the fields have now
  /// Whether it is a list: it may then be given several times in one place, which is the same as
  /// one value with commas between the items.
  bool repeats = false;
};

/// Where a value came from, in rising order of precedence.
enum class Source { standard, file, environment, command_line };

/// The effective value of each option as text that reads back to the same value, with its source.
struct Setting {
  std::string name;
  std::string value;
  Source source;
};

/// Sets the fields of `table` from an INI file (if given), then from the environment (`WEIR_…`:
/// upper case, dots and dashes become underscores), then from `arguments` (--name value,
/// --name=value; a bool takes true|false, or nothing for true; --name= is the empty text); the
/// later wins.
/// Throws UsageError, naming the file and line (or variable, or argument) and the nearest known
/// option, for: unknown or abbreviated names, WEIR_ variables that are nearly one, stray words, a
/// name that is no list given twice in one place, NaN, values that do not parse or lie outside
/// their range, an unreadable file. Other unknown WEIR_ variables are ignored, with a warning.
/// Numbers are written as option_value.hpp says. `environment` holds NAME=value strings; pass those
/// of rank 0 only.
std::vector<Setting> parse_options(const std::vector<Option>& table,
                                   const std::optional<std::string>& file,
                                   const std::vector<std::string>& environment,
                                   const std::vector<std::string>& arguments);

/// Takes the words out of `arguments` that are neither an option of the table nor its value: RUN
/// out of `--prompt x RUN`. Throws UsageError for unknown options and missing values, as
/// parse_options does.
std::vector<std::string> take_words(const std::vector<Option>& table,
                                    std::vector<std::string>& arguments);

/// Sets the fields from settings made by parse_options (on another rank, or from a checkpoint).
void apply_settings(const std::vector<Option>& table, const std::vector<Setting>& settings);

/// The fields' present values as an INI file that parse_options accepts, each with its source as a
/// comment.
std::string settings_as_ini(const std::vector<Setting>& settings);

/// For --help: a line or two each, grouped by the part of the name before the dot: name, unit,
/// default, choices or range, help.
std::string options_help(const std::vector<Option>& table);

/// All NAME=value strings of this process that start with WEIR_.
std::vector<std::string> weir_environment();

}  // namespace weir
