#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::worker {

/// Whether these are the first bytes of a gzip file.
bool looks_gzipped(std::span<const std::uint8_t> bytes);

/// Unpacks what zlib or gzip packed: the members of a gzip file one after the other, without the
/// zeros after the last. Throws Error, naming `name`, if `packed` is corrupt or cut short, or,
/// before it takes memory, if more than `bytes_max` would come out.
std::vector<std::uint8_t> inflate(std::span<const std::uint8_t> packed, index_t bytes_max,
                                  const std::string& name);

}  // namespace weir::worker
