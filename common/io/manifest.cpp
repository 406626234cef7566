#include "common/io/manifest.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <optional>
#include <set>
#include <span>
#include <string_view>

#include "common/base/error.hpp"
#include "common/io/digest.hpp"
#include "common/io/hdf5.hpp"

namespace weir {
namespace {

constexpr std::string_view kCrcKey = "crc32c ";
constexpr std::size_t kCrcLineSize = kCrcKey.size() + 8 + 1;

std::string first_line() { return text("weir checkpoint ", kCheckpointVersion); }

bool is_word(std::string_view name) {
  return !name.empty() && std::ranges::none_of(name, [](unsigned char c) { return c <= ' '; });
}

/// On one line: the only characters that a value may not keep.
std::string escaped(std::string_view value) {
  std::string result;
  for (const char letter : value) {
    if (letter == '\\') {
      result += "\\\\";
    } else if (letter == '\n') {
      result += "\\n";
    } else {
      result += letter;
    }
  }
  return result;
}

std::string unescaped(std::string_view value) {
  std::string result;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '\\' && i + 1 < value.size()) {
      ++i;
      result += value[i] == 'n' ? '\n' : value[i];
    } else {
      result += value[i];
    }
  }
  return result;
}

std::uint32_t crc_of(std::string_view text) { return crc32c(std::as_bytes(std::span(text))); }

/// Takes words from the front of a line. What is not there or not a number comes out as zero: the
/// comparison of the whole text afterwards finds it.
class Words {
 public:
  explicit Words(std::string_view line) : rest_(line) {}

  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }
  std::string_view word() {
    const auto end = std::min(rest_.find(' '), rest_.size());
    const auto result = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    return result;
  }
  template <class Integer>
  Integer integer(int base = 10) {
    const auto digits = word();
    Integer value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    return value;
  }

 private:
  std::string_view rest_;
};

void parse_line(std::string_view line, Manifest& manifest) {
  Words words(line);
  const auto key = words.word();
  if (key == "step") {
    manifest.step = words.integer<index_t>();
  } else if (key == "cursor") {
    manifest.cursor = words.integer<index_t>();
  } else if (key == "file_bytes") {
    manifest.file_bytes = words.integer<index_t>();
  } else if (key == "setting") {
    const auto name = std::string(words.word());
    manifest.settings[name] = unescaped(words.rest());
  } else if (key == "integer") {
    const auto name = std::string(words.word());
    manifest.integers[name] = words.integer<index_t>();
  } else if (key == "number") {
    const auto name = std::string(words.word());
    manifest.numbers[name] = std::bit_cast<double>(words.integer<std::uint64_t>(16));
  } else if (key == "record") {
    CheckpointRecord record{std::string(words.word()), {}, words.integer<index_t>()};
    while (!words.empty()) record.shape.push_back(words.integer<index_t>());
    manifest.records.push_back(record);
  } else if (key == "digest") {
    RangeDigest digest;
    digest.record = words.integer<index_t>();
    digest.begin = words.integer<index_t>();
    digest.end = words.integer<index_t>();
    digest.crc = words.integer<std::uint32_t>(16);
    manifest.digests.push_back(digest);
  }
}

template <class Value>
void check_names(const std::map<std::string, Value>& entries) {
  for (const auto& [name, value] : entries) {
    if (!is_word(name)) throw Error(text("the name `", name, "` is empty or has blanks"));
  }
}

void check_records(const Manifest& manifest) {
  std::set<std::string_view> names;
  std::vector<std::pair<index_t, index_t>> extents;  // bytes in the file
  for (const auto& record : manifest.records) {
    if (!is_word(record.name) || record.name.front() != '/' || !names.insert(record.name).second) {
      throw Error(text("the record name ", record.name, " is not possible or repeats"));
    }
    const index_t bytes = elements_of(record.shape) * index_t{sizeof(float)};
    if (record.offset < 0 || record.offset > manifest.file_bytes ||
        bytes > manifest.file_bytes - record.offset) {
      throw Error(text(record.name, " leaves the file"));
    }
    extents.emplace_back(record.offset, record.offset + bytes);
  }
  std::ranges::sort(extents);
  for (std::size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].first < extents[i - 1].second) throw Error("records overlap");
  }
}

void check_digests(const Manifest& manifest) {
  index_t next = 0;
  for (index_t i = 0; i < manifest.records.size(); ++i) {
    const index_t elements = elements_of(manifest.records[i].shape);
    index_t covered = 0;
    while (covered < elements) {
      const bool fits = next < manifest.digests.size() && manifest.digests[next].record == i &&
                        manifest.digests[next].begin == covered &&
                        manifest.digests[next].end > covered &&
                        manifest.digests[next].end <= elements &&
                        manifest.digests[next].end - covered <= kDigestElements;
      if (!fits) {
        throw Error(text("there is no digest of ", manifest.records[i].name, " from element ",
                         covered, " on"));
      }
      covered = manifest.digests[next++].end;
    }
  }
  if (next != manifest.digests.size()) throw Error("there are digests of nothing");
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  std::string lines = text(first_line(), "\nstep ", manifest.step, "\ncursor ", manifest.cursor,
                           "\nfile_bytes ", manifest.file_bytes, "\n");
  for (const auto& [name, value] : manifest.settings) {
    lines += text("setting ", name, " ", escaped(value), "\n");
  }
  for (const auto& [name, value] : manifest.integers) {
    lines += text("integer ", name, " ", value, "\n");
  }
  for (const auto& [name, value] : manifest.numbers) {
    const auto bits = hexadecimal(std::bit_cast<std::uint64_t>(value));
    lines += text("number ", name, " ", bits, " ", value, "\n");  // the decimal is for people
  }
  for (const auto& record : manifest.records) {
    lines += text("record ", record.name, " ", record.offset);
    for (const index_t extent : record.shape) lines += text(" ", extent);
    lines += "\n";
  }
  for (const auto& digest : manifest.digests) {
    lines += text("digest ", digest.record, " ", digest.begin, " ", digest.end, " ",
                  hexadecimal(digest.crc), "\n");
  }
  return lines + text(kCrcKey, hexadecimal(crc_of(lines)), "\n");
}

void check_manifest(const Manifest& manifest, const std::string& place) {
  try {
    check_names(manifest.settings);
    check_names(manifest.integers);
    check_names(manifest.numbers);
    check_records(manifest);
    check_digests(manifest);
  } catch (const Error& error) {
    throw Error(text(place, ": ", error.what()));
  }
}

Manifest parse_manifest(const std::string& bytes, const std::string& place) {
  const std::string_view all = bytes;
  const auto fail = [&](std::string_view what) -> Error { return Error(text(place, ": ", what)); };
  if (!all.starts_with("weir checkpoint ")) throw fail("not a manifest of weir");
  const std::string first = first_line();
  if (!all.starts_with(first + "\n")) {
    throw fail(text("the format `", all.substr(0, std::min<std::size_t>(all.find('\n'), 40)),
                    "` is not known; this version of weir reads `", first, "`"));
  }
  if (all.size() < first.size() + kCrcLineSize) throw fail("truncated");
  const auto lines = all.substr(0, all.size() - kCrcLineSize);
  if (!lines.ends_with('\n') || !all.substr(lines.size()).starts_with(kCrcKey)) {
    throw fail("truncated: the last line is not its CRC");
  }
  Words crc_line(all.substr(lines.size() + kCrcKey.size(), 8));
  if (crc_line.integer<std::uint32_t>(16) != crc_of(lines)) throw fail("damaged: its CRC is wrong");

  Manifest manifest;
  std::size_t begin = first.size() + 1;
  while (begin < lines.size()) {
    const auto end = lines.find('\n', begin);
    parse_line(lines.substr(begin, end - begin), manifest);
    begin = end + 1;
  }
  // Whatever is unknown, repeated, out of order or no number does not come out as it went in.
  if (manifest_text(manifest) != bytes) throw fail("it has lines that weir does not write");
  if (manifest.step < 0 || manifest.cursor < 0) throw fail("step or cursor are below zero");
  for (const auto& [name, count] :
       {std::pair("step", manifest.step), {"cursor", manifest.cursor}}) {
    if (count > kCountMax) {
      throw fail(text(name, " ", count, " is more than the ", kCountMax, " that weir counts to"));
    }
  }
  check_manifest(manifest, place);
  return manifest;
}

}  // namespace weir
