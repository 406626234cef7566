#include "launch/trace/trace_text.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/error.hpp"
#include "launch/trace/trace_reader.hpp"
#include "tests/temporary_folder.hpp"

namespace weir {
namespace {

using test::TemporaryFolder;
using Json = nlohmann::json;

/// Rank 1, whose clock is 5 s ahead, with a wait in a forward, a push and a forward of a
/// validation.
TracedRank some_rank() {
  TracedRank rank;
  rank.rank = 1;
  rank.role = "replica 0, stage 1, shard 0";
  rank.host = "anna\xff\"";
  rank.place = {.replica = 0, .stage = 1, .context = 0, .shard = 0};
  const ClockReading reading = {.at_s = 100, .ahead_s = 5, .error_s = 20e-6};
  rank.clock = {reading, reading};
  rank.record.dropped_count = 3;
  rank.record.spans = {
      {.kind = SpanKind::wait,
       .what = "weights",
       .begin_s = 106.25,
       .end_s = 106.5,
       .step = 4,
       .peer = 2,
       .piece = 9},
      {.what = "forward", .begin_s = 106, .end_s = 107, .step = 4, .chunk = 1, .micro_batch = 0},
      {.kind = SpanKind::transfer,
       .what = "push",
       .begin_s = 106.75,
       .end_s = 108,
       .step = 4,
       .peer = 2,
       .piece = 0},
      {.validates = true,
       .what = "forward",
       .begin_s = 109,
       .end_s = 110,
       .step = 4,
       .chunk = 1,
       .micro_batch = 0},
  };
  return rank;
}

std::string trace_of(const TracedRank& rank, double zero_s) {
  return trace_begin() + events_text(rank, zero_s) + trace_end("0.1.0", 20e-6, 3);
}

}  // namespace

TEST_CASE("a trace is JSON with times of rank 0's clock, in microseconds since the trace began") {
  const Json trace = Json::parse(trace_of(some_rank(), 100));
  CHECK(trace["otherData"]["clock_error_us"] == 20);
  CHECK(trace["otherData"]["dropped_spans"] == 3);
  const Json& events = trace["traceEvents"];
  CHECK(events[0]["args"]["stage"] == 1);
  CHECK(events[0]["args"]["clock_ahead_us"] == doctest::Approx(5e6));
  const Json& wait = events[2];
  CHECK(wait["name"] == "wait: weights");
  CHECK(wait["ph"] == "X");
  CHECK(wait["pid"] == 1);
  CHECK(wait["ts"] == doctest::Approx(1.25e6));
  CHECK(wait["dur"] == doctest::Approx(0.25e6));
  CHECK(wait["args"] == Json({{"step", 4}, {"peer", 2}, {"bucket", 9}}));
  CHECK(events[3]["args"] == Json({{"step", 4}, {"chunk", 1}, {"micro_batch", 0}}));
  CHECK(events[4]["ph"] == "b");
  CHECK(events[5]["ph"] == "e");
  CHECK(events[4]["id"] == events[5]["id"]);
  CHECK(events[5]["ts"] == doctest::Approx(3e6));
  CHECK(events[6]["args"]["validation_after"] == 4);
}

TEST_CASE("spans that nest do so in the file, whatever is rounded") {
  TracedRank rank = some_rank();
  const double begin_s = 100 + 1.0 / 3, length_s = 1e-6 / 7;
  rank.record.spans = {
      {.kind = SpanKind::wait, .what = "a frame", .begin_s = begin_s, .end_s = begin_s + length_s},
      {.what = "forward", .begin_s = begin_s, .end_s = begin_s + length_s},
  };
  const Json events = Json::parse(trace_of(rank, 90))["traceEvents"];
  CHECK(events[2]["ts"] == events[3]["ts"]);
  CHECK(events[2]["dur"] == events[3]["dur"]);
}

TEST_CASE("the reader finds the actions of steps again, and what of them was waiting") {
  const TemporaryFolder folder;
  const auto path = folder / "trace.json";
  std::ofstream(path) << trace_of(some_rank(), 100) << "{\"cat\":\"action\"}\n"
                      << R"({"cat":"action","name":7,"ph":8,"pid":1,"args":{"step":-1}})" << '\n'
                      << std::string(10'000, 'x') << "\"cat\":\"action\"\n[\n";
  const std::vector<TracedWorker> workers = read_trace(path);
  REQUIRE(workers.size() == 1);
  CHECK(workers[0].place.stage == 1);
  CHECK(workers[0].dropped_count == 3);
  REQUIRE(workers[0].actions.size() == 1);  // that of the validation is in no step
  const TracedAction& action = workers[0].actions[0];
  CHECK(action.name == "forward");
  CHECK(action.step == 4);
  CHECK(action.begin_s == doctest::Approx(1));
  CHECK(action.waited_s == doctest::Approx(0.25));
  CHECK(action.seconds() == doctest::Approx(0.75));
}

TEST_CASE("what is no trace is an error that names the file") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(read_trace(folder / "none"), doctest::Contains("none"), Error);
  std::ofstream(folder / "other") << "{\"traceEvents\":[]}\n";
  CHECK_THROWS_WITH_AS(read_trace(folder / "other"), doctest::Contains("is no trace of weir"),
                       Error);
}

}  // namespace weir
