#include "common/io/line_file.hpp"

#include <cstdio>

namespace weir {

LineFile::LineFile(const fs::path& path, std::size_t line_bytes_max, index_t begin)
    : line_bytes_max_(line_bytes_max) {
  File::open(path);  // an Error for a pipe, which would keep us waiting
  file_.open(path, std::ios::binary);
  if (!file_) throw_file_error("cannot read", path);
  file_.seekg(begin);
}

LineState LineFile::next() {
  line_.clear();
  std::size_t size = 0;
  std::streambuf& bytes = *file_.rdbuf();
  for (int byte = bytes.sbumpc(); byte != EOF; byte = bytes.sbumpc()) {
    if (byte == '\n') return size > line_bytes_max_ ? LineState::too_long : LineState::whole;
    if (++size <= line_bytes_max_) line_ += static_cast<char>(byte);
  }
  return size > line_bytes_max_ ? LineState::too_long
         : size > 0             ? LineState::cut_off
                                : LineState::none;
}

}  // namespace weir
