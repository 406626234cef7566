#pragma once

#include <fstream>
#include <string>

#include "common/io/file.hpp"

namespace weir {

/// What became of a line.
enum class LineState { none, whole, cut_off, too_long };

/// Reads the lines of a file that may hold anything, and may still be written. Each fits into
/// memory: of one that is too long only the beginning is kept, and its rest is read when the next
/// line is asked for.
class LineFile {
 public:
  /// Begins at byte `begin`. Throws Error if the file cannot be read, or is none (see File::open).
  LineFile(const fs::path& path, std::size_t line_bytes_max, index_t begin = 0);

  /// Reads the next line. `cut_off`: the last one, without its end; `none`: there is no more.
  LineState next();
  /// The line that next() has read, without its end.
  const std::string& line() const { return line_; }

 private:
  std::size_t line_bytes_max_;
  std::ifstream file_;
  std::string line_;
  bool is_too_long_ = false;  ///< the rest of the line has not been read
};

}  // namespace weir
