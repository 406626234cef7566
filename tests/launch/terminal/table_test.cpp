#include "launch/terminal/table.hpp"

#include <doctest/doctest.h>

#include "common/base/text.hpp"

namespace weir {

TEST_CASE("columns are as wide as their widest cell, but a giant one does not widen the others") {
  Table table("lr", {"name", "count"});
  table.add({"a", "1000"});
  table.add({"longer", "7"});
  CHECK(table.to_text() == "  name    count\n  a        1000\n  longer      7\n");
  const std::string giant(5000, 'x');
  table.add({giant, "8"});
  const std::string text = table.to_text();
  CHECK(text.size() < giant.size() + 4 * 250);
  CHECK(text.ends_with("  " + giant + "      8\n"));
}

}  // namespace weir
