#include "common/base/wait.hpp"

#include <doctest/doctest.h>

#include "common/base/machine.hpp"

namespace weir {

TEST_CASE("a long wait leaves the core to others, and ends within two naps") {
  const double end_s = seconds_now() + 0.2;
  int looks = 0;
  wait_until([&] {
    ++looks;
    return seconds_now() > end_s;
  });
  CHECK(seconds_now() - end_s < 0.1);  // 1 ms on an idle machine
  CHECK(looks < 5000);                 // about 600; millions if it spun
}

TEST_CASE("a wait moves other traffic on and stays awake while it moves") {
  int looks = 0, moves = 0;
  wait_until([&] { return ++looks == 1000; }, [&] { return ++moves > 0; });
  CHECK(moves == 999);
  moves = 0;
  wait_until([&] { return moves == 5; }, [&] { ++moves; });
  CHECK(moves == 5);
}

}  // namespace weir
