#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weir {

struct IniEntry {
  std::string name;  ///< sections joined by dots: `layers` in [model] is model.layers
  std::string value;
  int line;  ///< counted from 1
};

/// The `name = value` lines of an INI file, in its order.
///
/// [section] holds until the next one; a line that starts with # or ; is a comment, as is all from
/// a # after a blank on; blanks around names and values do not count. 'A value' may be quoted, and
/// "in double quotes" \\ \" \n \t \r stand for what they do in C. A byte order mark and CR before
/// the end of line are ignored. Throws UsageError, with file and line, for a file that cannot be
/// read and for any other line.
std::vector<IniEntry> read_ini(const std::string& path);

/// `value` as read_ini reads it back, quoted only where it must be.
std::string ini_value(std::string_view value);

}  // namespace weir
