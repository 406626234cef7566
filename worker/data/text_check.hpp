#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace weir::worker {

/// Says why these bytes of the file `path` cannot be meant as text, and what to do; empty if they
/// may be. Knows packed files, archives, documents and UTF-16 and UTF-32 by their first bytes: a
/// byte model would learn them without an error, and in vain.
std::string refusal_of(std::span<const std::uint8_t> bytes, const std::string& path);

/// A warning if the bytes hold more NUL or control characters than text does, else empty. Looks at
/// evenly spread pieces of them.
std::string doubt_about(std::span<const std::uint8_t> bytes, const std::string& path);

}  // namespace weir::worker
