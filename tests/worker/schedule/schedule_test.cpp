#include "worker/schedule/schedule.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/worker/schedule/schedule_executor.hpp"
#include "worker/schedule/schedule_check.hpp"
#include "worker/schedule/schedule_picture.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

ScheduleCosts equal_costs(index_t stages, double forward_s, double backward_s, double link_s = 0) {
  return {std::vector<StageCost>(stages, {forward_s, backward_s}), link_s};
}

ScheduleReport report_of(const Schedule& schedule, const ScheduleCosts& costs) {
  const ScheduleVerdict verdict = check(schedule, costs);
  REQUIRE_MESSAGE(verdict.report.has_value(), verdict.fault);
  return *verdict.report;
}

}  // namespace

// All numbers are sums of few binary digits, so equality is exact.
TEST_CASE("gpipe and 1f1b take the time and the activations of the formulas") {
  const StageCost ratios[] = {{1, 2}, {1, 2.5}, {0.75, 1.25}};
  for (const index_t p : {1, 2, 3, 4, 8}) {
    for (const index_t m : {8, 9, 16, 31, 64}) {
      for (const StageCost& cost : ratios) {
        for (const index_t link_slots : {1, 2, 3}) {
          CAPTURE(p);
          CAPTURE(m);
          CAPTURE(cost.backward_s);
          CAPTURE(link_slots);
          const ScheduleCosts costs = equal_costs(p, cost.forward_s, cost.backward_s);
          const double bubble_s = double(p - 1) * (cost.forward_s + cost.backward_s);
          const double work_s = double(m) * (cost.forward_s + cost.backward_s);
          for (const ScheduleKind kind :
               {ScheduleKind::gpipe, ScheduleKind::one_forward_one_backward}) {
            const Schedule schedule = make_schedule(kind, p, m, link_slots);
            const ScheduleReport report = report_of(schedule, costs);
            CHECK(report.makespan_s == work_s + bubble_s);
            CHECK(report.idle_share == doctest::Approx(double(p - 1) / double(m + p - 1)));
            for (index_t s = 0; s < p; ++s) {
              const index_t peak = kind == ScheduleKind::gpipe ? m : std::min(p - s, m);
              CHECK(report.peak_activations[s] == peak);
            }
            CHECK(report.peak_activations == schedule.activation_slots);
          }
          const Schedule evaluation = make_forward_only(p, m, link_slots);
          const ScheduleReport report = report_of(evaluation, costs);
          CHECK(report.makespan_s == double(m + p - 1) * cost.forward_s);
          CHECK(report.peak_activations == evaluation.activation_slots);
          CHECK(report.peak_activations == std::vector<index_t>(p, 1));
        }
      }
    }
  }
}

TEST_CASE("gpipe and 1f1b reproduce the reference table") {
  struct Row {
    index_t p, m;
    double makespan_s;
    double bubble_percent;
  };
  for (const Row& row : {Row{2, 8, 27, 11.1}, Row{4, 8, 33, 27.3}, Row{4, 16, 57, 15.8},
                         Row{8, 32, 117, 17.9}, Row{8, 64, 213, 9.9}}) {
    CAPTURE(row.p);
    CAPTURE(row.m);
    const ScheduleCosts costs = equal_costs(row.p, 1, 2);
    const auto gpipe = report_of(make_schedule(ScheduleKind::gpipe, row.p, row.m), costs);
    const auto in_turn =
        report_of(make_schedule(ScheduleKind::one_forward_one_backward, row.p, row.m), costs);
    CHECK(gpipe.makespan_s == row.makespan_s);
    CHECK(in_turn.makespan_s == row.makespan_s);
    CHECK(gpipe.peak_activations[0] == row.m);
    CHECK(in_turn.peak_activations[0] == row.p);
    CHECK(std::abs(100 * in_turn.idle_share - row.bubble_percent) <= 0.05);
  }
}

// The law was measured with unbounded buffers, for p that divides m.
TEST_CASE("1f1b with slow links loses what the law of links says") {
  for (const index_t p : {2, 4, 8}) {
    for (const index_t m : {8, 16, 32}) {
      for (const double link_s : {1.0 / 16, 1.0 / 32}) {
        CAPTURE(p);
        CAPTURE(m);
        const auto schedule = make_schedule(ScheduleKind::one_forward_one_backward, p, m);
        const double law_s = link_s * double(2 * (p - 1) * (m / p + 1) - 2);
        CHECK(report_of(schedule, equal_costs(p, 1, 2, link_s)).makespan_s ==
              double(3 * (m + p - 1)) + law_s);
      }
    }
  }
}

TEST_CASE("fewer micro-batches than stages are complete, too") {
  for (const index_t p : {2, 5, 8}) {
    for (index_t m = 1; m < p; ++m) {
      for (const ScheduleKind kind :
           {ScheduleKind::gpipe, ScheduleKind::one_forward_one_backward}) {
        const Schedule schedule = make_schedule(kind, p, m);
        const ScheduleCosts costs = equal_costs(p, 1, 2);
        CHECK(report_of(schedule, costs).makespan_s == double(3 * (m + p - 1)));
        CHECK(judge::play(schedule, costs).broken == "");
      }
    }
  }
}

TEST_CASE("schedules read as text") {
  CHECK(to_text(make_schedule(ScheduleKind::gpipe, 2, 2)) ==
        "0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1\n"
        "1RF0 1F0 1RF1 1F1 1B0 1SB0 1B1 1SB1\n");
  CHECK(to_text(make_schedule(ScheduleKind::one_forward_one_backward, 2, 2)) ==
        "0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1\n"
        "1RF0 1F0 1B0 1SB0 1RF1 1F1 1B1 1SB1\n");
  CHECK(to_text(make_forward_only(2, 2)) ==
        "0F0 0SF0 0F1 0SF1\n"
        "1RF0 1F0 1RF1 1F1\n");
  CHECK(to_text(make_schedule(ScheduleKind::one_forward_one_backward, 1, 2)) ==
        "0F0 0B0 0F1 0B1\n");
}

TEST_CASE("activation slots are taken in turn and freed by the backward") {
  const Schedule schedule = make_schedule(ScheduleKind::one_forward_one_backward, 3, 4);
  std::vector<index_t> slots;
  for (const Action& action : schedule.actions[0]) {
    if (action.kind == ActionKind::forward) slots.push_back(action.slot);
  }
  CHECK(slots == std::vector<index_t>{0, 1, 2, 0});
  CHECK(schedule.activation_slots == std::vector<index_t>{3, 2, 1});
}

TEST_CASE("the picture of 1f1b shows time across and stages down") {
  const Schedule schedule = make_schedule(ScheduleKind::one_forward_one_backward, 3, 4);
  CHECK(draw(schedule, equal_costs(3, 1, 2)) ==
        "stage 0  F0-F1-F2-            B0====F3-B1====   B2====   B3====\n"
        "stage 1     F0-F1-      B0====F2-B1====F3-B2====   B3====\n"
        "stage 2        F0-B0====F1-B1====F2-B2====F3-B3====\n"
        "makespan 18 s, idle 33.33 %\n");
}

TEST_CASE("a picture that is too wide loses its middle, and costs far apart keep it small") {
  const Schedule schedule = make_schedule(ScheduleKind::one_forward_one_backward, 2, 64);
  const std::string cut = draw(schedule, equal_costs(2, 1, 2), 60);
  CHECK(cut ==
        "stage 0  F0--F1--        B0===== ... 63-B62=====    B63=====\n"
        "stage 1      F0--B0======F1--B1= ... ===F63-B63=====\n"
        "makespan 195 s, idle 1.538 %\n");
  CHECK(cut.find('\n') == 60);

  ScheduleCosts costs = equal_costs(2, 1, 2);
  costs.stages[1] = {1e-9, 1e9};
  CHECK(draw(schedule, costs, 60).size() < 1000);
  CHECK(draw(schedule, equal_costs(2, 0, 0)) == "stage 0  \nstage 1  \nmakespan 0 s, idle 0 %\n");
}
