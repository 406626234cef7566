#include "common/io/digest.hpp"

#include <isa-l/crc.h>
#include <xxhash.h>

#include <algorithm>

namespace weir {
namespace {

template <class Word>
std::string digits_of(Word value) {
  std::string digits(sizeof(Word) * 2, '0');
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) {
    *digit = "0123456789abcdef"[value & 15];
    value = static_cast<Word>(value >> 4);
  }
  return digits;
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
  constexpr std::size_t kCallMax = std::size_t{1} << 30;  // ISA-L takes the length as an int
  std::uint32_t state = ~before;
  while (!bytes.empty()) {
    const std::size_t size = std::min(bytes.size(), kCallMax);
    // ISA-L only reads here, though its signature does not say so.
    auto* const data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
    state = crc32_iscsi(data, static_cast<int>(size), state);
    bytes = bytes.subspan(size);
  }
  return ~state;
}

std::string digest_of(std::span<const std::byte> bytes) {
  return hexadecimal(std::uint64_t{XXH3_64bits(bytes.data(), bytes.size())});
}

std::string digest_of(std::string_view bytes) { return digest_of(std::as_bytes(std::span(bytes))); }

std::string hexadecimal(std::uint8_t value) { return digits_of(value); }
std::string hexadecimal(std::uint32_t value) { return digits_of(value); }
std::string hexadecimal(std::uint64_t value) { return digits_of(value); }

}  // namespace weir
