#pragma once

#include <string>
#include <vector>

namespace weir {

/// A table of words and numbers for a terminal. Columns are as wide as their widest cell.
class Table {
 public:
  /// sides: a letter a column, `l` for words, which stand to the left, `r` for numbers. A header of
  /// empty words is not shown.
  Table(std::string sides, std::vector<std::string> header);
  /// A cell a column.
  void add(std::vector<std::string> cells);
  /// Lines, each with its end; two blanks before the first and between columns.
  std::string to_text() const;

 private:
  std::string sides_;
  std::vector<std::vector<std::string>> rows_;  ///< the header first
};

}  // namespace weir
