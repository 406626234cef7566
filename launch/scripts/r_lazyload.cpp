#include "launch/scripts/r_lazyload.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/index.hpp"
#include "worker/data/text/inflate.hpp"
#include "worker/data/text/token_file.hpp"

namespace weir::worker {
namespace {

// Kinds of values, the lowest byte of their flags (R Internals, 1.1).
enum Kind {
  kPairlist = 2,
  kCharacters = 9,
  kLogical = 10,
  kInteger = 13,
  kStrings = 16,
  kList = 19,
  kNoValue = 254,
  kReference = 255,
  kSymbol = 1,
};
constexpr int kHasAttributes = 0x200;
constexpr int kHasTag = 0x400;
constexpr int kDepthMax = 32;
constexpr index_t kUnpackedBytesMax = index_t{1} << 30;

/// Only the fields that the kind has are filled.
struct Value {
  int kind = kNoValue;
  std::string characters;
  std::vector<std::int32_t> integers;
  std::vector<std::string> strings;
  std::vector<Value> items;
  std::vector<std::string> names;

  const Value& operator[](std::string_view name) const {
    const auto found = std::find(names.begin(), names.end(), name);
    static const Value none;
    if (found == names.end() || names.size() != items.size()) return none;
    return items[found - names.begin()];
  }
};

/// Reads one serialised value; checks each size against the bytes left before it allocates.
class Reader {
 public:
  Reader(std::span<const std::uint8_t> bytes, std::string name)
      : bytes_(bytes), name_(std::move(name)) {}

  Value document() {
    if (take(2) != "X\n") fail("is no R serialisation in the XDR format");
    const int version = integer();
    integer(), integer();               // the R that wrote it, the oldest that reads it
    if (version == 3) take(integer());  // native encoding
    if (version != 2 && version != 3) fail(text("has version ", version, ", not 2 or 3"));
    return value(0);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(text("read ", name_, ": ", what, " (byte ", offset_, ")"));
  }

  std::string take(std::int32_t count) {
    if (count < 0 || static_cast<std::size_t>(count) > bytes_.size() - offset_) {
      fail("ends too early");
    }
    const auto part = bytes_.subspan(offset_, count);
    offset_ += part.size();
    return {part.begin(), part.end()};
  }

  std::int32_t integer() {
    std::uint32_t result = 0;
    for (const char byte : take(4)) result = result << 8 | static_cast<std::uint8_t>(byte);
    return static_cast<std::int32_t>(result);
  }

  /// A number of things of at least four bytes each.
  std::size_t count() {
    const std::int32_t result = integer();
    if (result < 0 || static_cast<std::size_t>(result) > (bytes_.size() - offset_) / 4) {
      fail(text("has a vector of ", result, " values"));
    }
    return static_cast<std::size_t>(result);
  }

  Value value(int depth) {
    if (depth > kDepthMax) fail("is nested too deeply");
    const int flags = integer();
    Value result;
    result.kind = flags & 0xff;
    switch (result.kind) {
      case kNoValue:
        return result;
      case kCharacters: {
        const std::int32_t size = integer();
        if (size < 0) fail("has a missing string (NA)");
        result.characters = take(size);
        return result;
      }
      case kSymbol:
        symbols_.push_back(value(depth + 1).characters);
        result.characters = symbols_.back();
        return result;
      case kReference: {
        const auto index = static_cast<std::uint32_t>(flags) >> 8;
        if (index < 1 || index > symbols_.size()) fail("refers to an unknown symbol");
        result.characters = symbols_[index - 1];
        return result;
      }
      case kLogical:
      case kInteger:
        result.integers.resize(count());
        for (auto& number : result.integers) number = integer();
        break;
      case kStrings:
        result.strings.resize(count());
        for (auto& string : result.strings) string = value(depth + 1).characters;
        break;
      case kList:
        result.items.resize(count());
        for (auto& item : result.items) item = value(depth + 1);
        break;
      default:
        fail(text("holds a value of kind ", result.kind, ", which is not read here"));
    }
    if (flags & kHasAttributes) result.names = names_among_attributes(depth + 1);
    return result;
  }

  /// Attributes are a pairlist: (flags, tag, value) each, until there is no value.
  std::vector<std::string> names_among_attributes(int depth) {
    std::vector<std::string> names;
    while (true) {
      const int flags = integer();
      if ((flags & 0xff) == kNoValue) return names;
      if ((flags & 0xff) != kPairlist || !(flags & kHasTag) || (flags & kHasAttributes)) {
        fail("has attributes in an unknown form");
      }
      const bool are_names = value(depth + 1).characters == "names";
      auto attribute = value(depth + 1);
      if (are_names) names = std::move(attribute.strings);
    }
  }

  std::span<const std::uint8_t> bytes_;
  std::string name_;
  std::size_t offset_ = 0;
  std::vector<std::string> symbols_;
};

}  // namespace

std::vector<std::string> r_strings(const std::string& stem, const std::string& object) {
  const TokenFile index_file(stem + ".rdx");
  const auto index = Reader(index_file.bytes(), index_file.path()).document();
  const Value& variables = index["variables"];
  const Value& place = variables[object];
  if (place.integers.size() != 2) {
    std::string known;
    for (const auto& name : variables.names) known += " " + name;
    throw Error(text("read ", index_file.path(), ": no object ", object, "; there are:", known));
  }
  const std::string values_path = stem + ".rdb";
  const MappedFile values_file(values_path);
  const std::string name = text(object, " in ", values_path);
  const auto values = numbers(values_file);
  const auto offset = static_cast<std::size_t>(std::max(0, place.integers[0]));
  const auto size = static_cast<std::size_t>(std::max(0, place.integers[1]));
  if (size < 4 || offset > values.size() || size > values.size() - offset) {
    throw Error(text("read ", name, ": bytes ", offset, " to ", offset + size, " of a file of ",
                     values.size(), "; is it cut short?"));
  }
  const auto packed = values.subspan(offset + 4, size - 4);  // the size in front is not needed
  const auto serialised = inflate(packed, kUnpackedBytesMax, name);
  auto result = Reader(serialised, name).document();
  if (result.kind != kStrings) throw Error(text("read ", name, ": not a character vector"));
  return std::move(result.strings);
}

}  // namespace weir::worker
