#include "launch/report/schedule_comparison.hpp"

#include <doctest/doctest.h>

#include "common/base/error.hpp"
#include "worker/schedule/schedule_check.hpp"

namespace weir {
namespace {

RunConfig two_stages() {
  RunConfig config;
  config.layout.stages = 2;
  return config;
}

/// A step of `micro_batches` on two stages, at twice the time of a forward for a backward, as
/// schedule_check has it, and `late_s` later on stage 1.
void add_step(std::vector<TracedWorker>& workers, index_t step, index_t micro_batches,
              double forward_s, double late_s) {
  workers.resize(2);
  const RunConfig config = two_stages();
  const worker::Schedule schedule = worker::schedule_of(config.train, config.layout, micro_batches);
  const worker::ChunkCost cost = {
      .forward_s = forward_s, .input_gradient_s = forward_s, .weight_gradient_s = forward_s};
  const worker::ScheduleVerdict verdict = check(schedule, {.chunks = {cost, cost}});
  REQUIRE(verdict.report);
  for (index_t stage = 0; stage < 2; ++stage) {
    workers[stage].place.stage = stage;
    for (const worker::ComputeSpan& span : verdict.report->spans[stage]) {
      const double zero_s = 100.0 * static_cast<double>(step) + (stage == 1 ? late_s : 0);
      workers[stage].actions.push_back({.name = name_of(span.action.kind),
                                        .step = step,
                                        .chunk = span.action.chunk,
                                        .micro_batch = span.action.micro_batch,
                                        .begin_s = zero_s + span.begin_s,
                                        .end_s = zero_s + span.end_s});
    }
  }
}

}  // namespace

TEST_CASE("a trace that follows its schedule exactly takes what the formula of 1f1b says") {
  std::vector<TracedWorker> workers;
  for (index_t step = 1; step <= 4; ++step) add_step(workers, step, 4, step == 1 ? 9 : 0.5, 0);
  const ScheduleComparison found = compare_schedule(workers, two_stages());
  CHECK(found.step_count == 3);  // the first one warms up
  CHECK(found.pipeline_count == 1);
  CHECK(found.micro_batches == 4);
  CHECK(found.planned.makespan_s == doctest::Approx((4 + 2 - 1) * 1.5));
  CHECK(found.real.makespan_s == doctest::Approx((4 + 2 - 1) * 1.5));
  CHECK(found.planned.idle_share == doctest::Approx(0.2));
  CHECK(found.real.idle_share == doctest::Approx(0.2));
  REQUIRE(found.times.size() == 4);
  CHECK(found.times[0].action == "backward");
  CHECK(found.times[0].seconds == doctest::Approx(1));
  CHECK(found.times[1].action == "forward");
  CHECK(found.times[1].seconds == doctest::Approx(0.5));
}

TEST_CASE("a stage that is late shows in what was, and not in the plan") {
  std::vector<TracedWorker> workers;
  for (index_t step = 1; step <= 3; ++step) add_step(workers, step, 4, 0.5, 6);
  const ScheduleComparison found = compare_schedule(workers, two_stages());
  CHECK(found.planned.makespan_s == doctest::Approx(7.5));
  CHECK(found.real.makespan_s == doctest::Approx(6.5 + 6));  // stage 1 ends a second early
  CHECK(found.real.idle_share == doctest::Approx(1 - 12.0 / 25));
}

TEST_CASE("steps that are cut, or have other micro-batches than the last one, do not count") {
  std::vector<TracedWorker> workers;
  for (const auto& [step, micro_batches] : {std::pair(1, 4), {2, 3}, {3, 4}, {4, 4}}) {
    add_step(workers, step, micro_batches, 0.5, 0);
  }
  CHECK(compare_schedule(workers, two_stages()).step_count == 2);
  std::erase_if(workers[0].actions, [](const TracedAction& action) {
    return action.step == 3 && action.micro_batch == 0;
  });
  CHECK(compare_schedule(workers, two_stages()).step_count == 1);
  RunConfig other = two_stages();
  other.train.schedule = worker::ScheduleKind::gpipe;
  CHECK_THROWS_WITH_AS(compare_schedule(workers, other), doctest::Contains("no step"), Error);
}

}  // namespace weir
