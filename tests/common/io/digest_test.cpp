#include "common/io/digest.hpp"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

using namespace weir;

namespace {

/// The definition, bit by bit.
std::uint32_t naive_crc32c(const std::string& bytes) {
  std::uint32_t state = ~0U;
  for (const char byte : bytes) {
    state ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) state = state >> 1 ^ (state & 1 ? 0x82f63b78U : 0U);
  }
  return ~state;
}

std::uint32_t crc_of(const std::string& bytes, std::uint32_t before = 0) {
  return crc32c(std::as_bytes(std::span(bytes)), before);
}

}  // namespace

TEST_CASE("crc32c has the published check values") {
  CHECK(crc_of("123456789") == 0xe3069283U);
  CHECK(crc_of("") == 0U);
  CHECK(crc_of(std::string(32, '\0')) == 0x8a9136aaU);    // RFC 3720, B.4
  CHECK(crc_of(std::string(32, '\xff')) == 0x62a8ab43U);  // RFC 3720, B.4
}

TEST_CASE("crc32c is that of the definition at all sizes and cuts") {
  constexpr unsigned kSeed = 11;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  for (const std::size_t size : {1, 2, 3, 7, 8, 9, 63, 64, 65, 511, 512, 513, 5000}) {
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    CAPTURE(size);
    CHECK(crc_of(bytes) == naive_crc32c(bytes));
    const std::size_t cut = random() % size;
    CHECK(crc_of(bytes.substr(cut), crc_of(bytes.substr(0, cut))) == naive_crc32c(bytes));
  }
}

TEST_CASE("a digest is XXH3 as 16 hexadecimal digits") {
  CHECK(digest_of("") == "2d06800538d394c2");  // xxHash specification: XXH3_64bits of nothing
  CHECK(digest_of("weir").size() == 16);
  CHECK(digest_of("weir") != digest_of("wier"));
  CHECK(hexadecimal(std::uint32_t{0xab}) == "000000ab");
  CHECK(hexadecimal(std::uint64_t{0xfedcba9876543210}) == "fedcba9876543210");
}
