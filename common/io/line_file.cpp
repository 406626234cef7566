#include "common/io/line_file.hpp"

#include <cstdio>
#include <limits>

namespace weir {

LineFile::LineFile(const fs::path& path, std::size_t line_bytes_max, index_t begin)
    : line_bytes_max_(line_bytes_max) {
  File::open(path);  // an Error for a pipe, which would keep us waiting
  file_.open(path, std::ios::binary);
  if (!file_) throw_file_error("cannot read", path);
  file_.seekg(begin);
}

LineState LineFile::next() {
  if (is_too_long_) file_.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  is_too_long_ = false;
  line_.clear();
  std::streambuf& bytes = *file_.rdbuf();
  for (int byte = bytes.sbumpc(); byte != EOF; byte = bytes.sbumpc()) {
    if (byte == '\n') return LineState::whole;
    if (line_.size() == line_bytes_max_) {
      is_too_long_ = true;
      return LineState::too_long;
    }
    line_ += static_cast<char>(byte);
  }
  return line_.empty() ? LineState::none : LineState::cut_off;
}

}  // namespace weir
