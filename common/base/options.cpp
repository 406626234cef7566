#include "common/base/options.hpp"

#include <unistd.h>

#include <algorithm>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/value_semantic.hpp>
#include <cctype>
#include <map>
#include <string_view>

#include "common/base/error.hpp"
#include "common/base/habits.hpp"
#include "common/base/ini.hpp"
#include "common/base/log.hpp"
#include "common/base/option_value.hpp"
#include "common/base/spelling.hpp"

namespace weir {
namespace {

namespace po = boost::program_options;

constexpr std::string_view kVariablePrefix = "WEIR_";

std::string variable_of(std::string_view name) {
  std::string result(kVariablePrefix);
  for (const char letter : name) {
    const bool separates = letter == '.' || letter == '-';
    result += separates ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  }
  return result;
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
  std::string name;  ///< the option's
  std::string value;
  std::string place;  ///< as an error about the value begins: `train.ini:12: model.layers = x`
};

/// Appends `given` to the list of that name in `all`, if there is one. Returns whether it did.
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
      throw UsageError(text(place, "unknown option ", name, option_hint(name, known)));
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

/// The options that the environment sets. A WEIR_ variable that resembles no option is ignored with
/// a warning; one that resembles an option is an error.
std::vector<Given> given_in_environment(const std::vector<Option>& table,
                                        const std::vector<std::string>& environment) {
  std::map<std::string, std::string> name_of;
  std::vector<std::string> known;  // without the prefix, which makes all of them alike
  for (const auto& option : table) {
    const std::string variable = variable_of(option.name);
    name_of[variable] = option.name;
    known.push_back(variable.substr(kVariablePrefix.size()));
  }
  WEIR_ASSERT(name_of.size() == table.size());
  std::vector<Given> result;
  for (const auto& assignment : environment) {
    const auto equals = assignment.find('=');
    const std::string variable = assignment.substr(0, equals);
    const auto name = name_of.find(variable);
    if (name == name_of.end()) {
      const std::string bare = variable.substr(std::min(variable.size(), kVariablePrefix.size()));
      const std::string prefix(kVariablePrefix);
      const std::string hint = option_hint(bare, known, prefix);
      if (hint.empty()) {
        log_warning(text("environment: ", variable,
                         " is no option of weir and is ignored; the "
                         "nearest is ",
                         prefix, nearest_name(bare, known)));
        continue;
      }
      throw UsageError(
          text("environment: unknown variable ", variable, hint, "; unset it or correct it"));
    }
    if (std::ranges::any_of(result, [&](const Given& g) { return g.name == name->second; })) {
      throw UsageError(text("environment: ", variable, " is given twice"));
    }
    const std::string value = equals == std::string::npos ? "" : assignment.substr(equals + 1);
    result.push_back({name->second, value, text("environment: ", variable, "=", value)});
  }
  return result;
}

/// An option of the command line; a word that belongs to no option has no name.
struct Written {
  std::string name;
  std::string value;  ///< or the word
};

/// Boost refuses `--name=`. While it parses, this stands for the empty value: no argument of a
/// process has a zero in it.
constexpr char kEmptyValue = '\0';

std::string without_mark(std::string word) {
  if (word.ends_with(kEmptyValue)) word.pop_back();
  return word;
}

po::parsed_options parse_command_line(const std::vector<Option>& table,
                                      std::vector<std::string> arguments) {
  for (std::string& argument : arguments) {
    const bool is_empty = argument.starts_with("--") && argument.ends_with('=') &&
                          argument.find('=') + 1 == argument.size();
    if (is_empty) argument += kEmptyValue;
  }
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

std::vector<Written> read_command_line(const std::vector<Option>& table,
                                       const std::vector<std::string>& arguments) {
  std::vector<std::string> known;
  for (const auto& option : table) known.push_back(option.name);
  std::vector<Written> result;
  for (const auto& parsed : parse_command_line(table, arguments).options) {
    const std::string word = without_mark(parsed.original_tokens.front());
    if (parsed.string_key.empty()) {
      result.push_back({"", word});
      continue;
    }
    if (parsed.unregistered) {
      const std::string name = word.substr(0, word.find('='));
      const std::string bare = name.substr(std::min(name.size(), name.find_first_not_of('-')));
      throw UsageError(text("unknown option ", name, option_hint(bare, known, "--")));
    }
    const bool has_two_words = parsed.original_tokens.size() == 2;
    const std::string next = without_mark(parsed.original_tokens.back());
    // Boost takes the next option as the value: --data --rate=1.
    if (has_two_words && next.starts_with("--")) {
      throw UsageError(text(word, ": a value is missing before ", next, " (which ", word, "=", next,
                            " would take as the value)"));
    }
    // And whatever follows a flag: --verify RUN.
    const bool is_flag = std::holds_alternative<bool*>(find(table, parsed.string_key)->field);
    if (is_flag && has_two_words && next != "true" && next != "false") {
      result.push_back({parsed.string_key, "true"});
      result.push_back({"", next});
      continue;
    }
    const std::string value = parsed.value.empty() ? "true" : parsed.value.front();
    result.push_back({parsed.string_key, without_mark(value)});
  }
  return result;
}

std::vector<Given> given_in_arguments(const std::vector<Option>& table,
                                      const std::vector<std::string>& arguments) {
  std::vector<Given> result;
  const Option* previous = nullptr;
  for (const auto& [name, value] : read_command_line(table, arguments)) {
    if (name.empty()) {
      const bool after_list = previous != nullptr && previous->repeats;
      throw UsageError(text("a stray word among the arguments: ", value,
                            after_list
                                ? text("; to give several, write each after --", previous->name,
                                       ", or a pattern in quotes, like '*.txt'")
                                : "; options are --name value or --name=value"));
    }
    const Given given = {name, value, text("--", name, "=", value)};
    previous = find(table, name);
    if (joins_list(result, *previous, given)) continue;
    if (std::ranges::find(result, name, &Given::name) != result.end()) {
      throw UsageError(text("--", name, " is given twice"));
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
        throw UsageError(text(given.place, ": expected ", expectation_after(option, given.value)));
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

std::vector<std::string> take_words(const std::vector<Option>& table,
                                    std::vector<std::string>& arguments) {
  std::vector<std::string> words, rest;
  for (const auto& [name, value] : read_command_line(table, arguments)) {
    if (name.empty()) {
      words.push_back(value);
    } else {
      rest.push_back(text("--", name, "=", value));
    }
  }
  arguments = std::move(rest);
  return words;
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
    if (std::string_view(*variable).starts_with(kVariablePrefix)) result.emplace_back(*variable);
  }
  return result;
}

}  // namespace weir
