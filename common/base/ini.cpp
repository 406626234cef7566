#include "common/base/ini.hpp"

#include <algorithm>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "common/base/error.hpp"

namespace weir {
namespace {

constexpr std::string_view kBlanks = " \t";
// Stands for a # that starts no comment while Boost, which knows no other kind, reads the line.
constexpr char kHiddenHash = '\x01';

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

bool is_quote(char letter) { return letter == '"' || letter == '\''; }

/// The place after the quote that closes the one at `begin`, or npos.
std::size_t end_of_quoted(std::string_view text, std::size_t begin) {
  const char quote = text[begin];
  for (std::size_t i = begin + 1; i < text.size(); ++i) {
    if (text[i] == quote) return i + 1;
    if (text[i] == '\\' && quote == '"') ++i;
  }
  return std::string_view::npos;
}

/// The line without its comment and with the other # hidden.
std::string without_comment(std::string_view line) {
  const auto equals = line.find('=');
  std::size_t quoted_end = 0;
  if (equals != std::string_view::npos) {
    const auto begin = line.find_first_not_of(kBlanks, equals + 1);
    if (begin != std::string_view::npos && is_quote(line[begin])) {
      quoted_end = std::min(end_of_quoted(line, begin), line.size());
    }
  }
  std::string result;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '#') {
      result += line[i];
      continue;
    }
    const bool after_blank = i == 0 || kBlanks.find(line[i - 1]) != std::string_view::npos;
    if (i >= quoted_end && after_blank) break;
    result += kHiddenHash;
  }
  return std::string(trimmed(result));
}

std::optional<char> unescaped(char letter) {
  switch (letter) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case '\\':
    case '"':
      return letter;
    default:
      return std::nullopt;
  }
}

std::string unquoted(std::string value, const std::string& place) {
  std::ranges::replace(value, kHiddenHash, '#');
  if (value.empty() || !is_quote(value.front())) return value;
  const auto end = end_of_quoted(value, 0);
  if (end == std::string::npos) throw UsageError(text(place, ": a quote is not closed"));
  if (end != value.size()) throw UsageError(text(place, ": there is text after the closing quote"));
  std::string inside = value.substr(1, value.size() - 2);
  if (value.front() == '\'') return inside;
  std::string result;
  for (std::size_t i = 0; i < inside.size(); ++i) {
    if (inside[i] != '\\') {
      result += inside[i];
      continue;
    }
    const auto letter = unescaped(inside[++i]);  // there is one: the closing quote was not escaped
    if (!letter) {
      throw UsageError(text(place, ": \\", inside[i], " in double quotes is none of \\\\ \\\" \\n ",
                            "\\t \\r; single quotes take everything as it is"));
    }
    result += *letter;
  }
  return result;
}

constexpr std::uintmax_t kBytesMax = std::uintmax_t{1} << 20;  // it takes some 45 times as much

std::string whole_file(const std::string& path) {
  const auto fail = [&](const std::string& why) -> UsageError {
    return UsageError(text("cannot read the configuration ", path, ": ", why));
  };
  // Looked at before it is opened: a pipe would keep us waiting, a device might never end.
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw fail(error.message());
  if (std::filesystem::is_directory(status)) throw fail("Is a directory");
  if (!std::filesystem::is_regular_file(status)) {
    throw fail("it is a pipe or a device, not a regular file");
  }
  if (std::filesystem::file_size(path, error) > kBytesMax && !error) {
    throw fail(text("it has more than ", kBytesMax, " bytes"));
  }
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream bytes;
  if (!stream || (stream.peek() != EOF && !(bytes << stream.rdbuf())) || stream.bad()) {
    throw fail(std::strerror(errno));
  }
  return bytes.str();
}

}  // namespace

std::vector<IniEntry> read_ini(const std::string& path) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  std::string bytes = whole_file(path);
  if (bytes.starts_with(kByteOrderMark)) bytes.erase(0, kByteOrderMark.size());

  // Boost reads sections, names and values, but names no line in its errors: what it cannot read is
  // found here first, and the k-th assignment it returns stands in the k-th of these lines.
  std::istringstream lines(bytes);
  std::string cleaned;
  std::vector<int> assignment_lines;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const auto place = [&] { return text(path, ":", number); };
    if (line.ends_with('\r')) line.pop_back();
    if (std::ranges::any_of(line, [](unsigned char c) { return c < ' ' && c != '\t'; })) {
      throw UsageError(text(place(), ": a control character; is this a text file?"));
    }
    line = trimmed(line);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    line = without_comment(line);
    const bool is_section = line.front() == '[' && line.back() == ']' && line.size() > 2;
    const bool is_assignment = !is_section && line.find('=') != std::string::npos &&
                               line.front() != '=' && line.front() != '[';
    if (!is_section && !is_assignment) {
      throw UsageError(
          text(place(), ": expected name = value, [section] or # comment, found: ", line));
    }
    if (is_assignment) assignment_lines.push_back(number);
    cleaned += line + '\n';
  }

  std::istringstream stream(cleaned);
  const auto parsed =
      boost::program_options::parse_config_file(stream, {}, /*allow_unregistered=*/true);
  WEIR_ASSERT(parsed.options.size() == assignment_lines.size());
  std::vector<IniEntry> entries;
  for (std::size_t i = 0; i < parsed.options.size(); ++i) {
    const auto& option = parsed.options[i];
    const std::string value = option.value.empty() ? "" : option.value.front();
    const int number = assignment_lines[i];
    entries.push_back({option.string_key, unquoted(value, text(path, ":", number)), number});
  }
  return entries;
}

std::string ini_value(std::string_view value) {
  const auto is_control = [](unsigned char letter) { return letter < ' '; };
  const bool plain = !value.empty() && trimmed(value) == value && !is_quote(value.front()) &&
                     value.find('#') == std::string_view::npos &&
                     std::ranges::none_of(value, is_control);
  if (plain) return std::string(value);
  std::string quoted = "\"";
  for (const char letter : value) {
    switch (letter) {
      case '\n':
        quoted += "\\n";
        break;
      case '\t':
        quoted += "\\t";
        break;
      case '\r':
        quoted += "\\r";
        break;
      case '\\':
      case '"':
        quoted += '\\';
        quoted += letter;
        break;
      default:
        quoted += letter;
    }
  }
  return quoted + '"';
}

}  // namespace weir
