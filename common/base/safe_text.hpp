#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weir {

/// Turns bytes, one after the other, into text that does no harm to a terminal. Valid UTF-8 stays
/// as it is; a byte that is no part of it, and each byte of a control character except newline and
/// tab, comes out as `\x1b`. Source for what is valid: RFC 3629, section 4.
class SafeText {
 public:
  /// What can be shown now; the bytes of an unfinished character wait.
  std::string add(std::uint8_t byte);
  /// What still waits.
  std::string end();

 private:
  std::string waiting_;
};

/// A whole text made harmless in this way: what names of files may hold must not reach a terminal.
std::string safe_text(std::string_view bytes);

}  // namespace weir
