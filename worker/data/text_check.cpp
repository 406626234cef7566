#include "worker/data/text_check.hpp"

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string_view>
#include <vector>

#include "common/base/index.hpp"
#include "common/base/text.hpp"

namespace weir::worker {
namespace {

using namespace std::string_view_literals;

/// A format, told by bytes at a fixed place, and a command that makes text of it. In the command
/// FILE stands for the file and TEXT for its name without the ending.
struct Format {
  std::string_view begin;
  std::string_view name;
  std::string_view cure;
  std::size_t offset = 0;
};

// UTF-32 comes before UTF-16, because its mark begins with the other's.
constexpr Format kFormats[] = {
    {"\xfd"
     "7zXZ\0"sv,
     "packed by xz", "xz -dc FILE > TEXT"},
    {"BZh", "packed by bzip2", "bzip2 -dc FILE > TEXT"},
    {"\x28\xb5\x2f\xfd", "packed by zstd", "zstd -dc FILE > TEXT"},
    {"\x04\x22\x4d\x18", "packed by lz4", "lz4 -dc FILE > TEXT"},
    {"LZIP\x01", "packed by lzip", "lzip -dc FILE > TEXT"},
    {"\x1f\x9d", "packed by compress", "gzip -dc FILE > TEXT"},
    {"\x1f\x8b", "packed by gzip twice", "gzip -dc FILE | gzip -dc > TEXT"},
    {"PK\x03\x04", "a zip archive (or a document in one: docx, odt, epub)", "unzip FILE"},
    {"PK\x05\x06", "an empty zip archive", "unzip FILE"},
    {"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x FILE"},
    {"Rar!\x1a\x07", "a rar archive", "unrar x FILE"},
    {"ustar", "a tar archive", "tar -xf FILE", 257},
    {"%PDF-", "a PDF document", "pdftotext FILE TEXT.txt"},
    {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", "catdoc FILE > TEXT.txt"},
    {"\x89HDF\r\n\x1a\n", "an HDF5 file", ""},
    {"SQLite format 3\0"sv, "an SQLite database", ""},
    {"PAR1\x15", "a Parquet file", ""},
    {"\x93NUMPY", "a NumPy array", ""},
    {"\x7f"
     "ELF",
     "a program", ""},
    {"\x89PNG\r\n\x1a\n", "a picture", ""},
    {"\xff\xd8\xff", "a picture", ""},
    {"\xff\xfe\0\0"sv, "UTF-32", "iconv -f UTF-32 -t UTF-8 FILE > TEXT.utf8"},
    {"\0\0\xfe\xff"sv, "UTF-32", "iconv -f UTF-32 -t UTF-8 FILE > TEXT.utf8"},
    {"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8 FILE > TEXT.utf8"},
    {"\xfe\xff", "UTF-16", "iconv -f UTF-16 -t UTF-8 FILE > TEXT.utf8"},
};

bool fits(const Format& format, std::span<const std::uint8_t> bytes) {
  if (bytes.size() < format.offset + format.begin.size()) return false;
  const auto place = bytes.subspan(format.offset, format.begin.size());
  const bool same = std::ranges::equal(
      place, format.begin, [](std::uint8_t byte, char letter) { return char(byte) == letter; });
  // A text may begin with BZh; a bzip2 file goes on with its block size and six fixed bytes.
  if (!same || format.begin != "BZh") return same;
  constexpr std::string_view kBlock = "\x31\x41\x59\x26\x53\x59", kEnd = "\x17\x72\x45\x38\x50\x90";
  if (bytes.size() < 10 || bytes[3] < '1' || bytes[3] > '9') return false;
  const std::string next(bytes.begin() + 4, bytes.begin() + 10);
  return next == kBlock || next == kEnd;
}

/// The text as one word of a shell command.
std::string shell_word(const std::string& path) {
  const auto is_plain = [](unsigned char letter) {
    return std::isalnum(letter) != 0 || std::string_view("/._-+").find(char(letter)) < 5;
  };
  if (std::ranges::all_of(path, is_plain)) return path;
  std::string word = "'";
  for (const char letter : path) word += letter == '\'' ? R"('\'')" : std::string(1, letter);
  return word + "'";
}

/// The command that makes text of the file.
std::string cure_of(const Format& format, const std::string& path) {
  const auto name_begin = path.rfind('/') + 1;  // 0 if there is none
  const auto dot = path.rfind('.');
  const bool has_ending = dot != std::string::npos && dot > name_begin;
  const std::string stem = has_ending ? path.substr(0, dot) : path + ".text";
  std::string command;
  std::istringstream words{std::string(format.cure)};
  for (std::string word; words >> word;) {
    if (word == "FILE") word = shell_word(path);
    if (word.starts_with("TEXT")) word = shell_word(stem + word.substr(4));
    command += (command.empty() ? "" : " ") + word;
  }
  return command;
}

/// Neither text nor one of the few control characters that texts hold.
bool is_odd(std::uint8_t byte) {
  return byte == 0x7f || (byte < 0x20 && "\b\t\n\v\f\r\x1b"sv.find(char(byte)) > 6);
}

}  // namespace

std::string refusal_of(std::span<const std::uint8_t> bytes, const std::string& path) {
  for (const Format& format : kFormats) {
    if (!fits(format, bytes)) continue;
    const std::string whole = text("read ", path, ": it is ", format.name, ", not text");
    if (format.cure.empty()) return whole + "; name a text";
    return text(whole, "; make text of it with `", cure_of(format, path), "` and name that");
  }
  return "";
}

std::string doubt_about(std::span<const std::uint8_t> bytes, const std::string& path) {
  constexpr std::size_t kPieces = 32, kPieceBytes = 4096;
  constexpr double kOddMax = 0.01;  // in random bytes one in ten is odd
  index_t seen = 0, nul = 0, odd = 0;
  const std::size_t apart = std::max(kPieceBytes, bytes.size() / kPieces);
  for (std::size_t begin = 0; begin < bytes.size(); begin += apart) {
    for (const std::uint8_t byte :
         bytes.subspan(begin, std::min(kPieceBytes, bytes.size() - begin))) {
      ++seen;
      nul += byte == 0 ? 1 : 0;
      odd += is_odd(byte) ? 1 : 0;
    }
  }
  const auto share = [&](index_t count) {
    return static_cast<double>(count) / static_cast<double>(std::max<index_t>(seen, 1));
  };
  if (share(odd) <= kOddMax) return "";
  const bool mostly_nul = 2 * nul > odd;
  const auto percent = static_cast<index_t>(100 * share(mostly_nul ? nul : odd) + 0.5);
  return text(path, ": ", std::max<index_t>(percent, 1), " % of its bytes are ",
              mostly_nul ? "NUL (UTF-16 without a mark, or a file with holes?)"
                         : "control characters (is it packed?)",
              "; it is trained on all the same, byte by byte");
}

}  // namespace weir::worker
