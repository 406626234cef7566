#include "tests/faults/mutation.hpp"

#include <algorithm>
#include <utility>

#include "common/base/text.hpp"

namespace weir::test {
namespace {

constexpr const char* kHostileNumbers[] = {"9223372036854775807",
                                           "-9223372036854775808",
                                           "9223372036854775808",
                                           "18446744073709551615",
                                           "9007199254740993",
                                           "4611686018427387904",
                                           "2147483648",
                                           "4294967297",
                                           "-1",
                                           "0",
                                           "-0",
                                           "1e308",
                                           "-1e308",
                                           "1e400",
                                           "1e-320",
                                           "0.5",
                                           "NaN",
                                           "nan",
                                           "inf",
                                           "-Infinity",
                                           "null",
                                           "true",
                                           "",
                                           "99999999999999999999999999999999999999",
                                           "0x10",
                                           "1_000",
                                           "16Ei",
                                           "[]",
                                           "{}",
                                           "[[1]]",
                                           "\"1\"",
                                           "\"<script>\"",
                                           "\"\\ud800\""};

std::vector<std::string> lines_of(const std::string& bytes) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < bytes.size();) {
    const std::size_t end = std::min(bytes.find('\n', begin), bytes.size() - 1);
    lines.push_back(bytes.substr(begin, end + 1 - begin));
    begin = end + 1;
  }
  return lines;
}

bool is_of_number(char letter) {
  return (letter >= '0' && letter <= '9') || letter == '.' || letter == '-' || letter == '+';
}

}  // namespace

std::string Mutator::damaged(std::string bytes, const std::string& other, bool has_lines) {
  const std::size_t count = chance(4) ? 2 + below(2) : 1;
  for (std::size_t each = 0; each < count; ++each) {
    if (has_lines && !chance(3)) {
      damage_lines(bytes);
    } else {
      damage_bytes(bytes, other);
    }
  }
  return bytes;
}

void Mutator::damage_bytes(std::string& bytes, const std::string& other) {
  const std::size_t size = bytes.size();
  const std::size_t at = below(size);
  if (size == 0) {
    note("a byte where there was none");
    bytes += static_cast<char>(below(256));
    return;
  }
  const std::size_t block = std::size_t{16} << below(9);
  const std::size_t from = below(size / block + 1) * block;
  const std::size_t to = below(size / block + 1) * block;
  switch (below(9)) {
    case 0:
      note(text("a bit of byte ", at));
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      break;
    case 1:
      note(text("byte ", at));
      bytes[at] = static_cast<char>(below(256));
      break;
    case 2:
      note(text("eight bytes from ", at, " on"));
      for (std::size_t each = at; each < std::min(at + 8, size); ++each) {
        bytes[each] = static_cast<char>(below(256));
      }
      break;
    case 3:
      note(text("cut at byte ", at));
      bytes.resize(at);
      break;
    case 4: {
      const std::size_t more = std::size_t{1} << below(14);
      note(text("grown by ", more));
      bytes.append(more, chance(2) ? '\0' : static_cast<char>(below(256)));
      break;
    }
    case 5:
      note(text("blocks of ", block, " at ", from, " and ", to, " swapped"));
      for (std::size_t each = 0; each < block; ++each) {
        if (std::max(from, to) + each < size) std::swap(bytes[from + each], bytes[to + each]);
      }
      break;
    case 6:
      note(text("an older block of ", block, " at ", from));
      if (from < std::min(size, other.size())) {
        bytes.replace(from, std::min(block, size - from), other.substr(from, block));
      }
      break;
    case 7:
      note(text("zeros, ", block, " from ", from, " on"));
      if (from < size)
        std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(from), std::min(block, size - from),
                    '\0');
      break;
    case 8:
      note("the older file");
      bytes = other;
      break;
  }
}

void Mutator::damage_lines(std::string& bytes) {
  if (chance(2)) return replace_number(bytes);
  std::vector<std::string> lines = lines_of(bytes);
  if (lines.empty()) return;
  const std::size_t at = below(lines.size());
  const auto place = lines.begin() + static_cast<std::ptrdiff_t>(at);
  switch (below(5)) {
    case 0:
      note(text("without line ", at + 1));
      lines.erase(place);
      break;
    case 1:
      note(text("line ", at + 1, " twice"));
      lines.insert(place, std::string(lines[at]));
      break;
    case 2: {
      const std::size_t other = below(lines.size());
      note(text("lines ", at + 1, " and ", other + 1, " swapped"));
      std::swap(lines[at], lines[other]);
      break;
    }
    case 3: {
      const std::size_t depth = std::size_t{1} << below(chance(16) ? 21 : 10);
      note(text("line ", at + 1, " nested ", depth, " deep"));
      const std::size_t value = lines[at].find(':');
      lines[at].insert(value == std::string::npos ? lines[at].size() / 2 : value + 1,
                       std::string(depth, chance(2) ? '[' : '{'));
      break;
    }
    case 4: {
      const std::size_t length = std::size_t{1} << below(chance(16) ? 22 : 12);
      note(text(length, " letters in line ", at + 1));
      lines[at].insert(below(lines[at].size()), std::string(length, chance(2) ? 'a' : '\xff'));
      break;
    }
  }
  bytes.clear();
  for (const std::string& line : lines) bytes += line;
}

void Mutator::replace_number(std::string& bytes) {
  for (int tries = 0; tries < 20; ++tries) {
    std::size_t begin = below(bytes.size());
    while (begin < bytes.size() && !is_of_number(bytes[begin])) ++begin;
    if (begin >= bytes.size()) continue;
    while (begin > 0 && is_of_number(bytes[begin - 1])) --begin;
    std::size_t end = begin;
    while (end < bytes.size() && is_of_number(bytes[end])) ++end;
    const std::string value = hostile_value();
    note(text("`", bytes.substr(begin, std::min<std::size_t>(end - begin, 40)), "` becomes `",
              value.substr(0, 60), "` at byte ", begin));
    bytes.replace(begin, end - begin, value);
    return;
  }
}

std::string Mutator::hostile_value() {
  const std::size_t kinds = std::size(kHostileNumbers);
  const std::size_t kind = below(kinds + 3);
  if (kind < kinds) return kHostileNumbers[kind];
  if (kind == kinds) return std::to_string(below(100));
  return std::to_string(static_cast<std::int64_t>(random_()));
}

std::vector<std::string> Mutator::damaged(std::vector<std::string> words) {
  const std::size_t count = 1 + below(3);
  for (std::size_t each = 0; each < count; ++each) {
    const std::size_t at = below(words.size());
    switch (below(6)) {
      case 0:
        if (!words.empty()) words.erase(words.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      case 1:
        if (!words.empty()) words.push_back(words[at]);
        break;
      case 2:
        if (!words.empty()) std::swap(words[at], words[below(words.size())]);
        break;
      case 3:
        words.insert(words.begin() + static_cast<std::ptrdiff_t>(at), hostile_value());
        break;
      default:
        if (!words.empty()) {
          words[at] = damaged(std::exchange(words[at], {}), hostile_value(), true);
          std::erase(words[at], '\0');
        }
    }
  }
  return words;
}

}  // namespace weir::test
