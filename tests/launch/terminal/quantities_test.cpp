#include "launch/terminal/quantities.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "launch/terminal/table.hpp"

namespace weir {
namespace {

TEST_CASE("bytes are told in powers of 1024 with three digits") {
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(640) == "640 B");
  CHECK(bytes_text(1023) == "1023 B");
  CHECK(bytes_text(1024) == "1.00 KiB");
  CHECK(bytes_text(1536) == "1.50 KiB");
  CHECK(bytes_text(10 * 1024) == "10.0 KiB");
  CHECK(bytes_text(1024 * 1024 - 1) == "1.00 MiB");
  CHECK(bytes_text(12'345'678) == "11.8 MiB");
  CHECK(bytes_text(index_t{9} << 28) == "2.25 GiB");
}

TEST_CASE("counts, shares and times keep few digits") {
  CHECK(short_count(7) == "7");
  CHECK(short_count(0.25) == "0.25");
  CHECK(short_count(999) == "999");
  CHECK(short_count(999.6) == "1.00k");
  CHECK(short_count(41'234) == "41.2k");
  CHECK(short_count(3.4e6) == "3.40M");
  CHECK(with_prefix(1.234e11, "FLOP/s") == "123 GFLOP/s");
  CHECK(with_prefix(0.5, "s") == "0.50 s");
  CHECK(percent(0) == "0 %");
  CHECK(percent(0.0042) == "0.4 %");
  CHECK(percent(0.614) == "61 %");
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1234567) == "1,234,567");
  CHECK(grouped(-123) == "-123");
  CHECK(grouped(-1234) == "-1,234");
  CHECK(clock_text(72) == "00:01:12");
  CHECK(clock_text(359'999.4) == "99:59:59");
  CHECK(seconds_text(0.314) == "0.31 s");
  CHECK(seconds_text(59.96) == "00:01:00");
  CHECK(or_unknown(std::nan(""), "61 %") == "n/a");
}

TEST_CASE("a table lines up, numbers to the right") {
  Table table("rlr", {"rank", "role", "bytes"});
  table.add({"0", "worker", "1,024"});
  table.add({"10", "server 0", "-"});
  CHECK(table.to_text() ==
        "  rank  role      bytes\n"
        "     0  worker    1,024\n"
        "    10  server 0      -\n");
}

}  // namespace
}  // namespace weir
