#include "common/base/text.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

using namespace weir;

TEST_CASE("text joins literals, strings, characters, numbers and booleans") {
  const std::string name = "bucket";
  const char* const pointer = "pointer";
  CHECK(text("a literal ", name, ' ', std::string_view(name).substr(0, 2), ' ', pointer) ==
        "a literal bucket bu pointer");
  CHECK(text(-1, ' ', std::int64_t{1} << 40, ' ', std::uint8_t{200}, ' ', 3U) ==
        "-1 1099511627776 200 3");
  CHECK(text(true, false) == "truefalse");
  CHECK(text().empty());
}

TEST_CASE("floating-point numbers come out short and read back the same") {
  CHECK(text(0.1, ' ', 0.1F, ' ', 1e300, ' ', -2.0) == "0.1 0.1 1e+300 -2");
  CHECK(std::stod(text(1.0 / 3)) == 1.0 / 3);
}
