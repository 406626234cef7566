#include "worker/schedule/schedule.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "common/base/error.hpp"
#include "common/base/text.hpp"
#include "tests/worker/schedule/schedule_executor.hpp"
#include "worker/schedule/schedule_check.hpp"
#include "worker/schedule/schedule_picture.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

// Seconds of a micro-batch on a stage, which its chunks share evenly.
struct StageSeconds {
  double forward_s, input_gradient_s, weight_gradient_s;
  double sum() const { return forward_s + input_gradient_s + weight_gradient_s; }
};
constexpr StageSeconds kOnes = {1, 1, 1};

ScheduleCosts equal_costs(const Pipeline& pipeline, const StageSeconds& stage, double link_s = 0) {
  const auto share = double(pipeline.chunks_a_stage);
  const ChunkCost chunk = {.forward_s = stage.forward_s / share,
                           .input_gradient_s = stage.input_gradient_s / share,
                           .weight_gradient_s = stage.weight_gradient_s / share};
  ScheduleCosts costs;
  costs.chunks = List<ChunkCost>(pipeline.chunks(), chunk);
  costs.link_s = link_s;
  return costs;
}

ScheduleReport report_of(const Schedule& schedule, const ScheduleCosts& costs) {
  const ScheduleVerdict verdict = check(schedule, costs);
  REQUIRE_MESSAGE(verdict.report.has_value(), verdict.fault);
  return *verdict.report;
}

// What is published for a schedule on equal stages with free links. Peaks are in activations of a
// chunk.
struct Published {
  double makespan_s;
  List<index_t> peak_activations;
};

Published published(ScheduleKind kind, const Pipeline& pipeline, index_t m,
                    const StageSeconds& stage) {
  const index_t p = pipeline.stages;
  const index_t v = pipeline.chunks_a_stage;
  const double work_s = double(m) * stage.sum();
  const double ramp = double(p - 1);
  const auto peaks = [&](auto peak_of) {
    List<index_t> all;
    for (index_t s = 0; s < p; ++s) all.push_back(std::min(m * v, index_t{peak_of(s)}));
    return all;
  };
  switch (kind) {
    case ScheduleKind::gpipe:
      return {work_s + ramp * stage.sum(), peaks([&](index_t) { return m; })};
    case ScheduleKind::one_forward_one_backward:
      return {work_s + ramp * stage.sum(), peaks([&](index_t s) { return p - s; })};
    case ScheduleKind::eager_one_forward_one_backward:
      return {work_s + ramp * stage.sum(), peaks([&](index_t s) { return 2 * (p - s) - 1; })};
    case ScheduleKind::interleaved:
      return {work_s + ramp * stage.sum() / double(v),
              peaks([&](index_t s) { return 2 * (p - 1 - s) + (v - 1) * p + 1; })};
    case ScheduleKind::zero_bubble_h1:
      return {work_s + ramp * (stage.forward_s + stage.input_gradient_s - stage.weight_gradient_s),
              peaks([&](index_t) { return p; })};
  }
  WEIR_UNREACHABLE();
}

const std::vector<ScheduleKind> kOneChunk = {
    ScheduleKind::gpipe, ScheduleKind::one_forward_one_backward,
    ScheduleKind::eager_one_forward_one_backward, ScheduleKind::zero_bubble_h1};

}  // namespace

TEST_CASE("every schedule takes the time and the activations of the published formulas, to 1e-9") {
  int compared = 0;
  const auto compare = [&](ScheduleKind kind, const Pipeline& pipeline, index_t m,
                           const StageSeconds& stage) {
    CAPTURE(int(kind));
    CAPTURE(pipeline.stages);
    CAPTURE(pipeline.chunks_a_stage);
    CAPTURE(pipeline.link_slots);
    CAPTURE(m);
    CAPTURE(stage.input_gradient_s);
    const Published truth = published(kind, pipeline, m, stage);
    const Schedule schedule = make_schedule(kind, pipeline, m);
    const ScheduleReport report = report_of(schedule, equal_costs(pipeline, stage));
    CHECK(std::abs(report.makespan_s - truth.makespan_s) <= 1e-9 * truth.makespan_s);
    CHECK(std::abs(report.idle_share - (1 - double(m) * stage.sum() / truth.makespan_s)) <= 1e-9);
    CHECK(report.peak_activations == truth.peak_activations);
    CHECK(report.messages == 2 * m * (pipeline.chunks() - 1));
    ++compared;
  };
  for (const StageSeconds& stage :
       {kOnes, StageSeconds{1, 1.2, 0.8}, StageSeconds{0.7, 0.9, 0.5}}) {
    for (const index_t link_slots : {1, 2}) {
      for (const index_t p : {1, 2, 3, 4, 8}) {
        for (const index_t m : {8, 9, 16, 31, 64}) {
          for (const ScheduleKind kind : kOneChunk) compare(kind, {p, 1, link_slots}, m, stage);
        }
        for (const index_t v : {2, 3, 4}) {
          for (const index_t m : {p, 2 * p, 4 * p, 8 * p}) {
            if (p > 1) compare(ScheduleKind::interleaved, {p, v, link_slots}, m, stage);
          }
        }
      }
    }
  }
  CHECK(compared == 888);
}

TEST_CASE("slots are what is held at the peak, and gradient slots what waits for its second half") {
  const Schedule in_turn = make_schedule(ScheduleKind::one_forward_one_backward, {4}, 8);
  CHECK(in_turn.activation_slots == std::vector<index_t>{4, 3, 2, 1});
  CHECK(in_turn.gradient_slots == std::vector<index_t>{0, 0, 0, 0});
  const Schedule halved = make_schedule(ScheduleKind::zero_bubble_h1, {4}, 8);
  CHECK(halved.activation_slots == std::vector<index_t>{4, 4, 4, 4});
  CHECK(halved.gradient_slots == std::vector<index_t>{0, 2, 3, 4});
  // The first chunk of a stage is the last to be through.
  const Schedule interleaved = make_schedule(ScheduleKind::interleaved, {2, 2}, 8);
  CHECK(interleaved.activation_slots == std::vector<index_t>{4, 3, 2, 1});
  for (const Schedule& schedule : {in_turn, halved, interleaved}) {
    ScheduleCosts costs;
    costs.chunks =
        List<ChunkCost>(schedule.chunks(), {.activation_bytes = 1000, .gradient_bytes = 10});
    const ScheduleReport report = report_of(schedule, costs);
    for (index_t s = 0; s < schedule.stages(); ++s) {
      CHECK(report.slot_bytes[s] >= 1000 * report.peak_activations[s]);
    }
    costs.slot_bytes_max = *std::ranges::max_element(report.slot_bytes);
    CHECK(check(schedule, costs).report.has_value());
    --costs.slot_bytes_max;
    const std::string fault = check(schedule, costs).fault;
    CHECK(fault.find(text("bytes, more than the ", costs.slot_bytes_max, " allowed")) !=
          std::string::npos);
  }
}

// Makespan, bubble in percent and activations of stage 0 for F = B = W = 1, found by another
// simulator.
TEST_CASE("schedules reproduce the reference table") {
  struct Row {
    ScheduleKind kind;
    index_t p, v, m;
    double makespan_s, bubble_percent, peak;
  };
  constexpr auto gpipe = ScheduleKind::gpipe, in_turn = ScheduleKind::one_forward_one_backward,
                 interleaved = ScheduleKind::interleaved, h1 = ScheduleKind::zero_bubble_h1;
  for (const Row& row : {Row{gpipe, 2, 1, 8, 27, 11.1, 8},
                         Row{gpipe, 4, 1, 8, 33, 27.3, 8},
                         Row{gpipe, 4, 1, 16, 57, 15.8, 16},
                         Row{gpipe, 8, 1, 32, 117, 17.9, 32},
                         Row{gpipe, 8, 1, 64, 213, 9.9, 64},
                         Row{in_turn, 2, 1, 8, 27, 11.1, 2},
                         Row{in_turn, 4, 1, 8, 33, 27.3, 4},
                         Row{in_turn, 4, 1, 16, 57, 15.8, 4},
                         Row{in_turn, 8, 1, 32, 117, 17.9, 8},
                         Row{in_turn, 8, 1, 64, 213, 9.9, 8},
                         Row{interleaved, 2, 2, 8, 25.5, 5.9, 2.5},
                         Row{interleaved, 4, 2, 8, 28.5, 15.8, 5.5},
                         Row{interleaved, 4, 2, 16, 52.5, 8.6, 5.5},
                         Row{interleaved, 8, 2, 32, 106.5, 9.9, 11.5},
                         Row{interleaved, 8, 2, 64, 202.5, 5.2, 11.5},
                         Row{interleaved, 2, 4, 8, 24.75, 3.0, 2.25},
                         Row{interleaved, 4, 4, 8, 26.25, 8.6, 4.75},
                         Row{interleaved, 4, 4, 16, 50.25, 4.5, 4.75},
                         Row{interleaved, 8, 4, 32, 101.25, 5.2, 9.75},
                         Row{interleaved, 8, 4, 64, 197.25, 2.7, 9.75},
                         Row{h1, 2, 1, 8, 25, 4.0, 2},
                         Row{h1, 4, 1, 8, 27, 11.1, 4},
                         Row{h1, 4, 1, 16, 51, 5.9, 4},
                         Row{h1, 8, 1, 32, 103, 6.8, 8},
                         Row{h1, 8, 1, 64, 199, 3.5, 8}}) {
    CAPTURE(int(row.kind));
    CAPTURE(row.p);
    CAPTURE(row.m);
    const Pipeline pipeline = {row.p, row.v};
    const auto report =
        report_of(make_schedule(row.kind, pipeline, row.m), equal_costs(pipeline, kOnes));
    CHECK(report.makespan_s == row.makespan_s);
    CHECK(std::abs(100 * report.idle_share - row.bubble_percent) <= 0.05);
    CHECK(double(report.peak_activations[0]) / double(row.v) == row.peak);
  }
}

// The laws were measured with unbounded buffers, for p that divides m.
TEST_CASE("with slow links schedules lose what the law of links says") {
  for (const index_t p : {2, 4, 8}) {
    for (const index_t m : {8, 16, 32}) {
      for (const double link_s : {1.0 / 16, 1.0 / 32}) {
        CAPTURE(p);
        CAPTURE(m);
        const auto lost_s = [&](ScheduleKind kind, index_t v) {
          const Pipeline pipeline = {p, v};
          const Schedule schedule = make_schedule(kind, pipeline, m);
          return report_of(schedule, equal_costs(pipeline, kOnes, link_s)).makespan_s -
                 published(kind, pipeline, m, kOnes).makespan_s;
        };
        const double ramp_s = double(p - 1) * link_s;
        CHECK(lost_s(ScheduleKind::one_forward_one_backward, 1) ==
              2 * ramp_s * double(m / p + 1) - 2 * link_s);
        CHECK(lost_s(ScheduleKind::eager_one_forward_one_backward, 1) == 2 * ramp_s);
        if (m > p) CHECK(lost_s(ScheduleKind::zero_bubble_h1, 1) == 4 * ramp_s);
        if (p > 2) CHECK(lost_s(ScheduleKind::interleaved, 2) == 4 * ramp_s + 2 * link_s);
      }
    }
  }
}

TEST_CASE(
    "any number of micro-batches is complete, and takes no longer than the next whole group") {
  for (const index_t p : {2, 3, 5, 8}) {
    for (index_t m = 1; m <= 2 * p + 1; ++m) {
      CAPTURE(p);
      CAPTURE(m);
      const auto makespan_s = [&](ScheduleKind kind, index_t v) {
        const Pipeline pipeline = {p, v};
        const Schedule schedule = make_schedule(kind, pipeline, m);
        const ScheduleCosts costs = equal_costs(pipeline, kOnes);
        const judge::Played played = judge::play(schedule, costs);
        CHECK(played.broken == "");
        CHECK(played.result == judge::result_of_one(p * v, m, true));
        return report_of(schedule, costs).makespan_s;
      };
      for (const ScheduleKind kind : kOneChunk) {
        CHECK(makespan_s(kind, 1) <= double(3 * (m + p - 1)));
      }
      const index_t whole = (m + p - 1) / p * p;
      for (const index_t v : {2, 3}) {
        CHECK(makespan_s(ScheduleKind::interleaved, v) <=
              double(3 * whole) + double(3 * (p - 1)) / double(v) + 1e-9);
      }
    }
  }
}

// A replica's share of a batch may change from step to step; its slots are made for the largest.
TEST_CASE("fewer micro-batches never need more slots") {
  for (const index_t p : {2, 3, 5, 8}) {
    for (const auto& [kind, v] :
         {std::pair{ScheduleKind::gpipe, 1}, std::pair{ScheduleKind::one_forward_one_backward, 1},
          std::pair{ScheduleKind::eager_one_forward_one_backward, 1},
          std::pair{ScheduleKind::zero_bubble_h1, 1}, std::pair{ScheduleKind::interleaved, 2},
          std::pair{ScheduleKind::interleaved, 3}}) {
      for (index_t m = 1; m <= 4 * p; ++m) {
        const Schedule fewer = make_schedule(kind, {p, v}, m);
        const Schedule more = make_schedule(kind, {p, v}, m + 1);
        for (index_t c = 0; c < fewer.chunks(); ++c) {
          CHECK(fewer.activation_slots[c] <= more.activation_slots[c]);
          CHECK(fewer.gradient_slots[c] <= more.gradient_slots[c]);
        }
      }
    }
  }
}

TEST_CASE("evaluation runs forwards only, keeps nothing, and takes the time of its pipeline") {
  for (const index_t p : {1, 2, 4, 8}) {
    for (const index_t v : {1, 2, 3}) {
      if (p == 1 && v > 1) continue;
      for (const index_t m : {1, 7, 8, 16}) {
        for (const index_t link_slots : {1, 2, 3}) {
          const Pipeline pipeline = {p, v, link_slots};
          const Schedule schedule = make_forward_only(pipeline, m);
          const ScheduleCosts costs = equal_costs(pipeline, kOnes);
          const ScheduleReport report = report_of(schedule, costs);
          CHECK(report.peak_activations == std::vector<index_t>(p, 1));
          CHECK(schedule.activation_slots == std::vector<index_t>(p * v, 1));
          CHECK(judge::play(schedule, costs).result == judge::result_of_one(p * v, m, false));
          if (m % p != 0) continue;
          const double truth_s = double(m) + double(p - 1) / double(v);
          CHECK(std::abs(report.makespan_s - truth_s) <= 1e-9 * truth_s);
        }
      }
    }
  }
}

TEST_CASE("schedules read as text") {
  CHECK(to_text(make_schedule(ScheduleKind::gpipe, {2}, 2)) ==
        "0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1P\n"
        "1RF0 1F0 1RF1 1F1 1B0 1SB0 1B1P 1SB1\n");
  CHECK(to_text(make_schedule(ScheduleKind::one_forward_one_backward, {2}, 2)) ==
        "0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1P\n"
        "1RF0 1F0 1B0 1SB0 1RF1 1F1 1B1P 1SB1\n");
  CHECK(to_text(make_schedule(ScheduleKind::eager_one_forward_one_backward, {2}, 3)) ==
        "0F0 0SF0 0F1 0SF1 0F2 0SF2 0RB0 0B0 0RB1 0B1 0RB2 0B2P\n"
        "1RF0 1F0 1B0 1SB0 1RF1 1F1 1B1 1SB1 1RF2 1F2 1B2P 1SB2\n");
  CHECK(to_text(make_schedule(ScheduleKind::zero_bubble_h1, {2}, 2)) ==
        "0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1P\n"
        "1RF0 1F0 1I0 1SB0 1RF1 1F1 1I1 1SB1 1W0 1W1P\n");
  CHECK(to_text(make_schedule(ScheduleKind::interleaved, {2, 2}, 1)) ==
        "0F0 0SF0 2RF0 2F0 2SF0 2RB0 2B0P 2SB0 0RB0 0B0P\n"
        "1RF0 1F0 1SF0 3RF0 3F0 3B0P 3SB0 1RB0 1B0P 1SB0\n");
  CHECK(to_text(make_forward_only({2}, 2)) ==
        "0F0 0SF0 0F1 0SF1\n"
        "1RF0 1F0 1RF1 1F1\n");
  CHECK(to_text(make_schedule(ScheduleKind::one_forward_one_backward, {1}, 2)) ==
        "0F0 0B0 0F1 0B1P\n");
}

TEST_CASE("activation slots are taken in turn and freed by the backward") {
  const Schedule schedule = make_schedule(ScheduleKind::one_forward_one_backward, {3}, 4);
  std::vector<index_t> slots;
  for (const Action& action : schedule.actions[0]) {
    if (action.kind == ActionKind::forward) slots.push_back(action.slot);
  }
  CHECK(slots == std::vector<index_t>{0, 1, 2, 0});
  CHECK(schedule.activation_slots == std::vector<index_t>{3, 2, 1});
}

std::string picture(const Schedule& schedule, const ScheduleCosts& costs, index_t width = 100) {
  const ScheduleVerdict verdict = check(schedule, costs);
  REQUIRE(verdict.report.has_value());
  return draw(schedule, *verdict.report, width);
}

TEST_CASE("the picture shows time across and stages down") {
  CHECK(picture(make_schedule(ScheduleKind::one_forward_one_backward, {3}, 4),
                equal_costs({3}, kOnes)) ==
        "stage 0  F0-F1-F2-            B0====F3-B1====   B2====   B3====\n"
        "stage 1     F0-F1-      B0====F2-B1====F3-B2====   B3====\n"
        "stage 2        F0-B0====F1-B1====F2-B2====F3-B3====\n"
        "makespan 18 s, idle 33.33 %\n");
  CHECK(picture(make_schedule(ScheduleKind::zero_bubble_h1, {2}, 2), equal_costs({2}, kOnes)) ==
        "stage 0  F0-F1-   B0====B1====\n"
        "stage 1     F0-I0=F1-I1=W0+W1+\n"
        "makespan 7 s, idle 14.29 %\n");
  CHECK(picture(make_schedule(ScheduleKind::interleaved, {2, 2}, 2), equal_costs({2, 2}, kOnes)) ==
        "stage 0  0F0-0F1-2F0-2F1-        2B0=====    2B1=====0B0=====0B1=====\n"
        "stage 1      1F0-1F1-3F0-3B0=====3F1-3B1=====1B0=====1B1=====\n"
        "makespan 7.5 s, idle 20 %\n");
}

TEST_CASE("a picture that is too wide loses its middle, and costs far apart keep it small") {
  const Schedule schedule = make_schedule(ScheduleKind::one_forward_one_backward, {2}, 64);
  const std::string cut = picture(schedule, equal_costs({2}, kOnes), 60);
  CHECK(cut ==
        "stage 0  F0--F1--        B0===== ... 63-B62=====    B63=====\n"
        "stage 1      F0--B0======F1--B1= ... ===F63-B63=====\n"
        "makespan 195 s, idle 1.538 %\n");
  CHECK(cut.find('\n') == 60);

  ScheduleCosts costs = equal_costs({2}, kOnes);
  costs.chunks[1] = {1e-9, 5e8, 5e8};
  CHECK(picture(schedule, costs, 60).size() < 1000);
  CHECK(picture(schedule, equal_costs({2}, {0, 0, 0})) ==
        "stage 0  \nstage 1  \nmakespan 0 s, idle 0 %\n");
}
