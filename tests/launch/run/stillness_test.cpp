#include "launch/run/stillness.hpp"

#include <doctest/doctest.h>

namespace weir::test::stillness_test {
namespace {

ActivityNow activity(std::uint64_t moves, const Need& need = {"weights", 2}) {
  ActivityNow now;
  now.phase = JobPhase::train;
  now.need = need;
  now.moves = moves;
  return now;
}

}  // namespace

TEST_CASE("a rank that waits is in time until nothing has moved for the floor") {
  Stillness stillness(30, 100);
  stillness.look(100, activity(1), 0);
  stillness.look(129, activity(1), 5);  // it waits awake: that is no move
  CHECK(stillness.in_time());
  CHECK(stillness.still_s() == 29);
  stillness.look(131, activity(1), 10);
  CHECK_FALSE(stillness.in_time());
  stillness.look(132, activity(2), 10);
  CHECK(stillness.in_time());
  CHECK(stillness.still_s() == 0);
}

TEST_CASE("a rank that computes is in time however long it takes, and one that is blocked is not") {
  Stillness stillness(30, 0);
  stillness.look(0, activity(1, {}), 0);
  for (int second = 1; second <= 1000; ++second) {
    stillness.look(second, activity(1, {}), 0.01 * second);
    REQUIRE(stillness.in_time());
  }
  stillness.look(1029, activity(1, {}), 10);
  CHECK(stillness.in_time());
  stillness.look(1031, activity(1, {}), 10);
  CHECK_FALSE(stillness.in_time());
}

TEST_CASE("starting, reading a checkpoint and work with files have longer deadlines") {
  const Deadlines deadlines(30);
  CHECK(deadlines.seconds(JobPhase::train, false) == 30);
  CHECK(deadlines.seconds(JobPhase::validate, false) == 30);
  CHECK(deadlines.seconds(JobPhase::start, false) == 120);
  CHECK(deadlines.seconds(JobPhase::close, false) == 120);
  CHECK(deadlines.seconds(JobPhase::load, false) == 300);
  CHECK(deadlines.seconds(JobPhase::train, true) == 300);
}

TEST_CASE("a phase whose gaps are long gets five times the 99th percentile of the last hundred") {
  Deadlines deadlines(30);
  for (int gap = 0; gap < 98; ++gap) deadlines.note_gap(JobPhase::train, 0.1);
  deadlines.note_gap(JobPhase::train, 40);
  deadlines.note_gap(JobPhase::train, 500);
  CHECK(deadlines.seconds(JobPhase::train, false) == 200);  // of 100 gaps the second longest
  CHECK(deadlines.seconds(JobPhase::train, true) == 300);
  CHECK(deadlines.seconds(JobPhase::validate, false) == 30);
  for (int gap = 0; gap < 100; ++gap) deadlines.note_gap(JobPhase::train, 7);
  CHECK(deadlines.seconds(JobPhase::train, false) == 35);  // the long ones are too long ago
}

TEST_CASE("the gap of a phase that was learnt keeps the next one of that length in time") {
  Stillness stillness(1, 0);
  std::uint64_t moves = 0;
  for (double now_s = 0; now_s < 60; now_s += 0.5) stillness.look(now_s, activity(++moves), 0);
  CHECK(stillness.deadline_s() == doctest::Approx(2.5));
}

}  // namespace weir::test::stillness_test
