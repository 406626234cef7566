#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace weir {

/// CRC-32C (Castagnoli) of the bytes, about 10 GB/s: finds damage of memory and disks.
/// crc32c(b, crc32c(a)) is that of a followed by b. "123456789" has 0xe3069283.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

/// XXH3-64 of the bytes as 16 hexadecimal digits: tells configurations, plans and files apart. It
/// does not protect against deliberate changes.
std::string digest_of(std::span<const std::byte> bytes);
std::string digest_of(std::string_view bytes);

/// The value in hexadecimal, with all digits of its type.
std::string hexadecimal(std::uint8_t value);
std::string hexadecimal(std::uint32_t value);
std::string hexadecimal(std::uint64_t value);

}  // namespace weir
