#pragma once

#include <string>
#include <variant>

#include "common/base/index.hpp"

namespace weir {

/// A name and a value that a file tells its readers beside the data.
struct Attribute {
  std::string name;
  std::variant<std::string, index_t, double> value;
};

}  // namespace weir
