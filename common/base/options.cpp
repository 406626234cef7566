#include "common/base/options.hpp"

#include <unistd.h>

#include <algorithm>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/value_semantic.hpp>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <string_view>

#include "common/base/error.hpp"
#include "common/base/ini.hpp"
#include "common/base/spelling.hpp"

namespace weir {
namespace {

namespace po = boost::program_options;

/// Overloaded lambdas for std::visit.
template <class... Cases>
struct Match : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Match(Cases...) -> Match<Cases...>;

std::string variable_of(std::string_view name) {
  std::string result = "WEIR_";
  for (const char letter : name) {
    const bool separates = letter == '.' || letter == '-';
    result += separates ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  }
  return result;
}

// ---- values ------------------------------------------------------------------------------------

/// `6`, `16k`, `1e3`; nothing if it is no whole number. k, M, G are powers of 1000, Ki, Mi, Gi of
/// 1024.
std::optional<index_t> parse_count(std::string_view text) {
  index_t whole = 0;
  const char* const end = text.data() + text.size();
  const auto as_whole = std::from_chars(text.data(), end, whole);
  if (as_whole.ec == std::errc() && as_whole.ptr == end) return whole;

  double number = 0;
  const auto as_number = std::from_chars(text.data(), end, number);
  if (as_number.ec != std::errc()) return std::nullopt;
  static const std::map<std::string_view, double> suffixes = {
      {"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"Ki", 0x1p10}, {"Mi", 0x1p20}, {"Gi", 0x1p30}};
  const auto suffix =
      suffixes.find(std::string_view(as_number.ptr, static_cast<std::size_t>(end - as_number.ptr)));
  if (suffix == suffixes.end()) return std::nullopt;
  number *= suffix->second;
  constexpr double kExact = 0x1p53;  // beyond it a double may not be the number that was written
  if (!(std::abs(number) <= kExact) || number != std::floor(number)) return std::nullopt;
  return static_cast<index_t>(number);
}

std::optional<double> parse_number(std::string_view text) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return number;
}

std::string bound(const Option& option, double value) {
  if (std::holds_alternative<index_t*>(option.field)) {
    return text(static_cast<index_t>(value));
  }
  return text(value);
}

/// ` 1..4096`, ` >= 1`, ` <= 8` or nothing.
std::string range_of(const Option& option) {
  // Beyond these a count or number cannot get anyway, so they say nothing to a reader.
  const double limit =
      std::holds_alternative<index_t*>(option.field) ? 0x1p62 : std::numeric_limits<double>::max();
  const bool low = option.range.low > -limit;
  const bool high = option.range.high < limit;
  if (low && high) {
    return text(" ", bound(option, option.range.low), "..", bound(option, option.range.high));
  }
  if (low) return text(" >= ", bound(option, option.range.low));
  if (high) return text(" <= ", bound(option, option.range.high));
  return "";
}

std::string joined(const std::vector<std::string>& words, std::string_view between) {
  std::string result;
  for (const auto& word : words) result += (result.empty() ? "" : std::string(between)) + word;
  return result;
}

/// What a value of the option must be, for help and errors.
std::string expectation(const Option& option) {
  const std::string unit = option.unit.empty() ? "" : text(" (", option.unit, ")");
  return std::visit(
      Match{[](bool*) -> std::string { return "true or false"; },
            [&](index_t*) { return text("a whole number", range_of(option), unit); },
            [&](double*) { return text("a number", range_of(option), unit); },
            [](std::string*) -> std::string { return "text without control characters"; },
            [](const Choice& choice) { return text("one of ", joined(choice.names, ", ")); }},
      option.field);
}

/// Sets the field if the value is as expected.
bool set_field(const Option& option, const std::string& value) {
  const auto in_range = [&](double number) {
    return option.range.low <= number && number <= option.range.high;  // false for NaN
  };
  return std::visit(
      Match{[&](bool* field) {
              if (value != "true" && value != "false") return false;
              *field = value == "true";
              return true;
            },
            [&](index_t* field) {
              const auto count = parse_count(value);
              if (!count || !in_range(static_cast<double>(*count))) return false;
              *field = *count;
              return true;
            },
            [&](double* field) {
              const auto number = parse_number(value);
              if (!number || !in_range(*number)) return false;
              *field = *number;
              return true;
            },
            [&](std::string* field) {
              constexpr std::string_view kWritable = "\n\t\r";  // the others config.ini cannot hold
              const bool writable = std::ranges::all_of(value, [&](char letter) {
                return static_cast<unsigned char>(letter) >= ' ' ||
                       kWritable.find(letter) != std::string_view::npos;
              });
              if (writable) *field = value;
              return writable;
            },
            [&](const Choice& choice) {
              const bool known = std::ranges::find(choice.names, value) != choice.names.end();
              if (known) choice.set(value);
              return known;
            }},
      option.field);
}

std::string value_of(const Option& option) {
  return std::visit(Match{[](const bool* field) { return text(*field); },
                          [](const index_t* field) { return text(*field); },
                          [](const double* field) { return text(*field); },
                          [](const std::string* field) { return *field; },
                          [](const Choice& choice) { return choice.get(); }},
                    option.field);
}

// ---- names -------------------------------------------------------------------------------------

const Option* find(const std::vector<Option>& table, std::string_view name) {
  const auto found =
      std::ranges::find_if(table, [&](const Option& option) { return option.name == name; });
  return found == table.end() ? nullptr : &*found;
}

// ---- sources -----------------------------------------------------------------------------------

/// One value as a source gives it.
struct Given {
  std::string name;  ///< of the option
  std::string value;
  std::string place;  ///< as an error about the value begins: `train.ini:12: model.layers = x`
};

/// Whether `given` goes on with a list that `all` holds already, and if so, joins them.
bool joins_list(std::vector<Given>& all, const Option& option, const Given& given) {
  const auto earlier = std::ranges::find(all, option.name, &Given::name);
  if (!option.repeats || earlier == all.end()) return false;
  earlier->value += "," + given.value;
  return true;
}

std::vector<Given> given_in_file(const std::vector<Option>& table, const std::string& path) {
  std::vector<std::string> known;
  for (const auto& option : table) known.push_back(option.name);
  std::vector<Given> result;
  std::map<std::string, int> first_line;
  for (const auto& [name, value, line] : read_ini(path)) {
    const std::string place = text(path, ":", line, ": ");
    const Option* const option = find(table, name);
    if (option == nullptr) {
      throw UsageError(text(place, "unknown option ", name, did_you_mean(name, known)));
    }
    const Given given = {name, value, text(place, name, " = ", value)};
    if (joins_list(result, *option, given)) continue;
    const auto [first, is_new] = first_line.emplace(name, line);
    if (!is_new) {
      throw UsageError(text(place, name, " is given twice, first in line ", first->second));
    }
    result.push_back(given);
  }
  return result;
}

std::vector<Given> given_in_environment(const std::vector<Option>& table,
                                        const std::vector<std::string>& environment) {
  std::map<std::string, std::string> name_of;
  std::vector<std::string> known;
  for (const auto& option : table) {
    known.push_back(variable_of(option.name));
    name_of[known.back()] = option.name;
  }
  WEIR_ASSERT(name_of.size() == table.size());
  std::vector<Given> result;
  for (const auto& assignment : environment) {
    const auto equals = assignment.find('=');
    const std::string variable = assignment.substr(0, equals);
    const auto name = name_of.find(variable);
    if (name == name_of.end()) {
      throw UsageError(text("environment: unknown variable ", variable,
                            did_you_mean(variable, known),
                            "; unset it, all that begin with WEIR_ are options"));
    }
    if (std::ranges::any_of(result, [&](const Given& g) { return g.name == name->second; })) {
      throw UsageError(text("environment: ", variable, " is given twice"));
    }
    const std::string value = equals == std::string::npos ? "" : assignment.substr(equals + 1);
    result.push_back({name->second, value, text("environment: ", variable, "=", value)});
  }
  return result;
}

po::parsed_options parse_command_line(const std::vector<Option>& table,
                                      const std::vector<std::string>& arguments) {
  po::options_description description;
  for (const auto& option : table) {
    auto* const value = po::value<std::string>();
    if (std::holds_alternative<bool*>(option.field)) value->implicit_value("true");
    description.add_options()(option.name.c_str(), value);
  }
  // No guessing: Boost would take --model.lay for --model.layers. No short options: -6 is a value.
  using po::command_line_style::style_t;
  constexpr int kStyle =
      style_t::allow_long | style_t::long_allow_adjacent | style_t::long_allow_next;
  try {
    return po::command_line_parser(arguments)
        .options(description)
        .style(kStyle)
        .allow_unregistered()
        .run();
  } catch (const po::invalid_command_line_syntax& error) {
    const std::string argument = error.get_option_name();
    const Option* const option = find(table, argument.substr(argument.find_first_not_of('-')));
    throw UsageError(text(argument, ": a value is missing",
                          option == nullptr ? "" : text("; expected ", expectation(*option))));
  }
}

std::vector<Given> given_in_arguments(const std::vector<Option>& table,
                                      const std::vector<std::string>& arguments) {
  std::vector<std::string> known;
  for (const auto& option : table) known.push_back(option.name);
  std::vector<Given> result;
  const Option* previous = nullptr;
  for (const auto& parsed : parse_command_line(table, arguments).options) {
    const std::string& word = parsed.original_tokens.front();
    if (parsed.string_key.empty()) {
      const bool after_list = previous != nullptr && previous->repeats;
      throw UsageError(text("a stray word among the arguments: ", word,
                            after_list ? text("; of several write each after --", previous->name,
                                              ", or a pattern in quotes, like '*.txt'")
                                       : "; options are --name value or --name=value"));
    }
    if (parsed.unregistered) {
      const std::string name = word.substr(0, word.find('='));
      const std::string bare = name.substr(std::min(name.size(), name.find_first_not_of('-')));
      throw UsageError(text("unknown option ", name, did_you_mean(bare, known, "--")));
    }
    // Boost takes the next option as the value: --data --rate=1.
    if (parsed.original_tokens.size() == 2 && parsed.original_tokens[1].starts_with("--")) {
      const std::string& next = parsed.original_tokens[1];
      throw UsageError(text(word, ": a value is missing before ", next, " (which ", word, "=", next,
                            " would take as the value)"));
    }
    const std::string value = parsed.value.empty() ? "true" : parsed.value.front();
    const Given given = {parsed.string_key, value, text("--", parsed.string_key, "=", value)};
    previous = find(table, given.name);
    if (joins_list(result, *previous, given)) continue;
    if (std::ranges::find(result, given.name, &Given::name) != result.end()) {
      throw UsageError(text("--", given.name, " is given twice"));
    }
    result.push_back(given);
  }
  return result;
}

// ---- output ------------------------------------------------------------------------------------

std::string group_of(std::string_view name) {
  const auto dot = name.find('.');
  return std::string(name.substr(0, dot == std::string_view::npos ? 0 : dot));
}

std::string_view name_of(Source source) {
  switch (source) {
    case Source::standard:
      return "default";
    case Source::file:
      return "file";
    case Source::environment:
      return "environment";
    case Source::command_line:
      return "command line";
  }
  WEIR_UNREACHABLE();
}

/// The groups in the order in which they first occur, the one without a name first.
template <class Item>
std::vector<std::string> groups_of(const std::vector<Item>& items) {
  std::vector<std::string> groups = {""};
  for (const auto& item : items) {
    const std::string group = group_of(item.name);
    if (std::ranges::find(groups, group) == groups.end()) groups.push_back(group);
  }
  return groups;
}

}  // namespace

std::vector<Setting> parse_options(const std::vector<Option>& table,
                                   const std::optional<std::string>& file,
                                   const std::vector<std::string>& environment,
                                   const std::vector<std::string>& arguments) {
  std::map<std::string, Source> source_of;
  const auto take = [&](Source source, const std::vector<Given>& all) {
    for (const Given& given : all) {
      const Option& option = *find(table, given.name);
      if (!set_field(option, given.value)) {
        throw UsageError(text(given.place, ": expected ", expectation(option)));
      }
      source_of[given.name] = source;
    }
  };
  if (file) take(Source::file, given_in_file(table, *file));
  take(Source::environment, given_in_environment(table, environment));
  take(Source::command_line, given_in_arguments(table, arguments));

  std::vector<Setting> settings;
  for (const auto& option : table) {
    const auto source = source_of.find(option.name);
    settings.push_back({option.name, value_of(option),
                        source == source_of.end() ? Source::standard : source->second});
  }
  return settings;
}

void apply_settings(const std::vector<Option>& table, const std::vector<Setting>& settings) {
  for (const auto& setting : settings) {
    const Option* const option = find(table, setting.name);
    if (option == nullptr) {
      throw Error(text("setting ", setting.name, " = ", setting.value,
                       ": this version of weir has no such option"));
    }
    if (!set_field(*option, setting.value)) {
      throw Error(text("setting ", setting.name, " = ", setting.value, ": expected ",
                       expectation(*option)));
    }
  }
}

std::string settings_as_ini(const std::vector<Setting>& settings) {
  std::string result;
  for (const auto& group : groups_of(settings)) {
    if (!group.empty()) result += text("\n[", group, "]\n");
    for (const auto& setting : settings) {
      if (group_of(setting.name) != group) continue;
      const auto name = setting.name.substr(group.empty() ? 0 : group.size() + 1);
      result += text(name, " = ", ini_value(setting.value), "  # ", name_of(setting.source), "\n");
    }
  }
  return result;
}

std::string options_help(const std::vector<Option>& table) {
  std::string result;
  for (const auto& group : groups_of(table)) {
    if (!group.empty()) result += text("\n", group, ":\n");
    for (const auto& option : table) {
      if (group_of(option.name) != group) continue;
      const std::string standard = value_of(option);
      const bool is_text = std::holds_alternative<std::string*>(option.field);
      result += text("  --", option.name, "  ", option.help, "\n      ",
                     is_text ? "text" : expectation(option), "; default ",
                     standard.empty() ? "empty" : standard, "\n");
    }
  }
  return result;
}

std::vector<std::string> weir_environment() {
  std::vector<std::string> result;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::string_view(*variable).starts_with("WEIR_")) result.emplace_back(*variable);
  }
  return result;
}

}  // namespace weir
