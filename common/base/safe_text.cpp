#include "common/base/safe_text.hpp"

#include <string_view>

namespace weir {
namespace {

std::string escaped(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string all;
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    all += "\\x";
    all += kDigits[value >> 4];
    all += kDigits[value & 15];
  }
  return all;
}

unsigned byte_at(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}

/// How many bytes the character has that these begin with; 0 if they begin none.
std::size_t character_size(std::string_view bytes) {
  const unsigned first = byte_at(bytes, 0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const std::size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  for (std::size_t at = 1; at < std::min(size, bytes.size()); ++at) {
    unsigned low = 0x80, high = 0xbf;
    if (at == 1) {
      // Neither longer than need be, nor a surrogate, nor beyond U+10FFFF.
      if (first == 0xe0) low = 0xa0;
      if (first == 0xed) high = 0x9f;
      if (first == 0xf0) low = 0x90;
      if (first == 0xf4) high = 0x8f;
    }
    if (byte_at(bytes, at) < low || byte_at(bytes, at) > high) return 0;
  }
  return size;
}

/// U+0000 to U+001F, U+007F to U+009F.
bool is_control(std::string_view character) {
  const unsigned first = byte_at(character, 0);
  if (character.size() == 1) return first < 0x20 || first == 0x7f;
  return first == 0xc2 && byte_at(character, 1) < 0xa0;
}

}  // namespace

std::string SafeText::add(std::uint8_t byte) {
  waiting_ += static_cast<char>(byte);
  std::string shown;
  while (!waiting_.empty()) {
    const std::size_t size = character_size(waiting_);
    if (size > waiting_.size()) break;
    const std::string character = waiting_.substr(0, size == 0 ? 1 : size);
    const bool stays =
        character == "\n" || character == "\t" || (size > 0 && !is_control(character));
    shown += stays ? character : escaped(character);
    waiting_.erase(0, character.size());
  }
  return shown;
}

std::string SafeText::end() {
  std::string shown = escaped(waiting_);
  waiting_.clear();
  return shown;
}

std::string safe_text(std::string_view bytes) {
  SafeText text;
  std::string shown;
  for (const char byte : bytes) shown += text.add(static_cast<std::uint8_t>(byte));
  return shown + text.end();
}

}  // namespace weir
