#pragma once

#include <string>
#include <vector>

namespace weir {

/// A table of words and numbers for a terminal. Columns are as wide as their widest cell, but at
/// most 200; a cell beyond that shifts those to its right.
class Table {
 public:
  /// sides: a letter for each column: `l` aligns words to the left, `r` numbers to the right. A
  /// header of empty words is not shown.
  Table(std::string sides, std::vector<std::string> header);
  /// Adds a row with one cell for each column.
  void add(std::vector<std::string> cells);
  /// The lines of the table, each with a line end; two blanks before the first column and between
  /// columns.
  std::string to_text() const;

 private:
  std::string sides_;
  std::vector<std::vector<std::string>> rows_;  ///< the header first
};

}  // namespace weir
