#include "worker/train/inject.hpp"

#include <doctest/doctest.h>

#include "common/base/error.hpp"

using namespace weir;
using namespace weir::worker;

TEST_CASE("a slow replica takes so many times as long, in its share of the steps, and no other") {
  const Injection always = parse_injection("slow=1:3x");
  CHECK(injected_seconds(always, 1, 7, 1, 0.5) == 1.0);
  CHECK(injected_seconds(always, 0, 7, 1, 0.5) == 0);
  const Injection both = parse_injection("sleep=50ms,slow=2:5x:20%");
  index_t slow = 0;
  for (index_t step = 1; step <= 10'000; ++step) {
    const double seconds = injected_seconds(both, 2, step, 3, 0.01);
    const bool is_slow = seconds == doctest::Approx(5 * 0.05 + 4 * 0.01);
    CHECK((is_slow || seconds == 0.05));
    slow += is_slow ? 1 : 0;
    CHECK(injected_seconds(both, 1, step, 3, 0.01) == 0.05);
  }
  CHECK(slow > 1850);  // 2,000 +- 40
  CHECK(slow < 2150);
  CHECK(injected_seconds(parse_injection(""), 0, 1, 1, 1) == 0);
}

TEST_CASE("an injection that is none is refused with what would be one") {
  for (const char* words :
       {"slow",          "slow=1",      "slow=1:3",       "slow=x:3x",
        "slow=1:0.5x",   "slow=-1:2x",  "slow=1:3x:120%", "slow=1:3x:",
        "slow=1:3x 20%", "sleep=5",     "sleep=-1ms",     "slow=1:3x,,sleep=1ms",
        "fast=1:3x",     "bad=30x",     "bad=101%:30x",   "bad=1%:0.5x",
        "bad=20-10:3x",  "bad=0-:3x",   "bad=5:3x",       "scale=1%",
        "flip=1%:3x",    "tensor=-:3x", "overflow=1%:2x"}) {
    CAPTURE(words);
    CHECK_THROWS_WITH_AS(parse_injection(words), doctest::Contains("slow=REPLICA:FACTORx"),
                         UsageError);
  }
}

TEST_CASE("bad steps are a function of seed and step, none before step 100") {
  const Injection injection = parse_injection("bad=1%:30x");
  index_t same = 0, bad = 0;
  for (index_t step = 1; step <= 20'100; ++step) {
    const bool one = has_random_targets(injection, step, 1);
    CHECK(one == has_random_targets(injection, step, 1));
    bad += one ? 1 : 0;
    same += one && has_random_targets(injection, step, 2) ? 1 : 0;
    if (step < kFirstFaultyStep) CHECK(!one);
  }
  CHECK(bad > 150);  // 200 +- 14
  CHECK(bad < 250);
  CHECK(same < 12);  // 2
  CHECK(!has_random_targets(parse_injection("slow=1:3x"), 1000, 1));
  CHECK_THROWS_WITH_AS(parse_injection("bad=1%"), doctest::Contains("bad=1%:30x"),
                       weir::UsageError);
}

TEST_CASE("faults strike the steps that they name, and others do not have random targets") {
  const Injection injection = parse_injection("bad=300-319:30x,scale=400-:4x,tensor=5-5:1000x");
  REQUIRE(injection.faults.size() == 3);
  for (index_t step = 1; step <= 1000; ++step) {
    CAPTURE(step);
    CHECK(strikes(injection.faults[0], step, 1) == (300 <= step && step <= 319));
    CHECK(strikes(injection.faults[1], step, 1) == (step >= 400));
    CHECK(strikes(injection.faults[2], step, 1) == (step == 5));
    CHECK(has_random_targets(injection, step, 1) == (300 <= step && step <= 319));
  }
  CHECK(injection.faults[1].factor == 4);
  // Kinds are drawn apart, so that faults of one hide none of another.
  const Injection drawn = parse_injection("bad=10%:2x,flip=10%");
  index_t both = 0, flips = 0;
  for (index_t step = 100; step < 10'100; ++step) {
    const bool flip = strikes(drawn.faults[1], step, 1);
    flips += flip ? 1 : 0;
    both += flip && strikes(drawn.faults[0], step, 1) ? 1 : 0;
  }
  CHECK(flips > 850);  // 1,000 +- 30
  CHECK(flips < 1150);
  CHECK(both > 50);  // 100 +- 10
  CHECK(both < 150);
}
