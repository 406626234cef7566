#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/base/index.hpp"
#include "common/base/list.hpp"

namespace weir {

/// What differs between two things that must agree, a line each: the list that an Error shows.
class Differences {
 public:
  void add(std::string line) { lines_.push_back(std::move(line)); }
  bool empty() const { return lines_.empty(); }
  /// The first 20 lines, each on a line of its own and indented, and how many more there are.
  std::string to_text() const;

 private:
  std::vector<std::string> lines_;
};

/// `300 x 1000`, or `one number` for a shape without dimensions.
std::string shape_text(const List<index_t>& shape);

}  // namespace weir
