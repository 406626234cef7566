#include "common/base/trace.hpp"

#include <doctest/doctest.h>

#include <string>

#include "common/base/activity.hpp"

namespace weir {
namespace {

/// Puts the record of the process back.
struct ActivityAsBefore {
  ActivityAsBefore() = default;
  ActivityAsBefore(const ActivityAsBefore&) = delete;
  ActivityAsBefore& operator=(const ActivityAsBefore&) = delete;
  ~ActivityAsBefore() {
    if (trace_is_on()) end_trace();
    note_phase(JobPhase::start);
    note_step(0);
  }
};

}  // namespace

TEST_CASE("without a trace nothing is recorded, and a span does not even look at the clock") {
  CHECK(span_begin() == 0);
  { const Traced traced({.what = "forward"}); }
  record_span_until({.what = "serve", .begin_s = 1}, 2);
  start_trace();
  CHECK(end_trace().spans.empty());
}

TEST_CASE("spans end in the order of the record, nest as they were, and know their step") {
  const ActivityAsBefore activity;
  start_trace();
  note_phase(JobPhase::train);
  note_step(6);
  {
    const Traced forward({.what = "forward", .chunk = 1, .micro_batch = 2});
    const Waiting waiting({"weights", 3, 17});
  }
  note_phase(JobPhase::validate);
  { const Traced forward({.what = "forward", .chunk = 1, .micro_batch = 0}); }
  const SpanRecord record = end_trace();
  CHECK(record.dropped_count == 0);
  REQUIRE(record.spans.size() == 3);
  const Span& wait = record.spans[0];
  const Span& forward = record.spans[1];
  const Span& validation = record.spans[2];
  CHECK(wait.kind == SpanKind::wait);
  CHECK(wait.what == std::string("weights"));
  CHECK(wait.peer == 3);
  CHECK(wait.piece == 17);
  CHECK(wait.step == 7);
  CHECK(forward.micro_batch == 2);
  CHECK(forward.step == 7);
  CHECK_FALSE(forward.validates);
  CHECK(validation.validates);
  CHECK(validation.step == 6);
  CHECK(forward.begin_s <= wait.begin_s);
  CHECK(wait.begin_s <= wait.end_s);
  CHECK(wait.end_s <= forward.end_s);
  CHECK(forward.end_s <= validation.begin_s);
}

TEST_CASE("a record that is full keeps the newest spans and counts the others") {
  start_trace(4);
  for (int span = 1; span <= 10; ++span) {
    record_span_until({.what = "serve", .begin_s = double(span)}, span + 0.5);
  }
  const SpanRecord record = end_trace();
  CHECK(record.dropped_count == 6);
  REQUIRE(record.spans.size() == 4);
  for (int at = 0; at < 4; ++at) CHECK(record.spans[at].begin_s == 7 + at);
  start_trace(4);
  CHECK(end_trace().dropped_count == 0);  // the next trace begins anew
}

}  // namespace weir
