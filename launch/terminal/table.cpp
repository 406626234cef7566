#include "launch/terminal/table.hpp"

#include <algorithm>

#include "common/base/error.hpp"

namespace weir {
namespace {

constexpr std::size_t kWidthMax = 200;  // or one giant cell makes all rows giants

std::string padding(std::size_t width, const std::string& cell) {
  return std::string(width - std::min(width, cell.size()), ' ');
}

}  // namespace

Table::Table(std::string sides, std::vector<std::string> header) : sides_(std::move(sides)) {
  add(std::move(header));
}

void Table::add(std::vector<std::string> cells) {
  WEIR_ASSERT(cells.size() == sides_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::to_text() const {
  const std::size_t columns = sides_.size();
  std::vector<std::size_t> widths(columns, 0);
  for (const auto& row : rows_) {
    for (std::size_t column = 0; column < columns; ++column) {
      widths[column] = std::max(widths[column], std::min(row[column].size(), kWidthMax));
    }
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t column = 0; column < columns; ++column) {
      const std::string blanks = padding(widths[column], row[column]);
      line += "  ";
      line += sides_[column] == 'r' ? blanks + row[column] : row[column] + blanks;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    if (!line.empty()) out += line + "\n";
  }
  return out;
}

}  // namespace weir
