#include "common/base/differences.hpp"

#include <doctest/doctest.h>

#include "common/base/text.hpp"

using namespace weir;

TEST_CASE("differences show 20 lines at most, and how many more there are") {
  Differences differences;
  CHECK(differences.empty());
  CHECK(differences.to_text().empty());
  std::string expected;
  for (int line = 0; line < 20; ++line) {
    differences.add(text("line ", line));
    expected += text("\n  line ", line);
  }
  CHECK(!differences.empty());
  CHECK(differences.to_text() == expected);
  differences.add("line 20");
  differences.add("line 21");
  CHECK(differences.to_text() == expected + "\n  and 2 more");
}

TEST_CASE("a shape reads as its extents") {
  CHECK(shape_text({}) == "one number");
  CHECK(shape_text({7}) == "7");
  CHECK(shape_text({300, 1000, 2}) == "300 x 1000 x 2");
}
