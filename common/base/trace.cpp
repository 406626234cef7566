#include "common/base/trace.hpp"

#include <algorithm>
#include <utility>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"

namespace weir {
namespace {

/// A ring: when it is full, a new span takes the place of the oldest.
struct Recorder {
  std::vector<Span> ring;
  index_t capacity = 0;
  index_t count = 0;  ///< all that were recorded
};
Recorder recorder;

}  // namespace

void start_trace(index_t spans_max) {
  WEIR_ASSERT(spans_max > 0);
  recorder = {};
  recorder.capacity = spans_max;
  recorder.ring.reserve(static_cast<std::size_t>(spans_max));
  detail::trace_is_on = true;
}

SpanRecord end_trace() {
  detail::trace_is_on = false;
  SpanRecord record;
  record.dropped_count = std::max<index_t>(0, recorder.count - recorder.capacity);
  if (record.dropped_count > 0) {
    std::ranges::rotate(recorder.ring, recorder.ring.begin() + recorder.count % recorder.capacity);
  }
  record.spans = std::exchange(recorder.ring, {});
  recorder = {};
  return record;
}

void record_span(Span span) {
  if (span.begin_s > 0) record_span_until(span, seconds_now());
}

void record_span_until(Span span, double end_s) {
  if (!trace_is_on() || span.begin_s == 0) return;
  const detail::ActivityRecord& activity = detail::activity_record;
  span.end_s = end_s;
  span.validates = activity.phase.load(std::memory_order_relaxed) == JobPhase::validate;
  span.step = activity.step.load(std::memory_order_relaxed) + (span.validates ? 0 : 1);
  if (recorder.count < recorder.capacity) {
    recorder.ring.push_back(span);
  } else {
    recorder.ring[static_cast<std::size_t>(recorder.count % recorder.capacity)] = span;
  }
  ++recorder.count;
}

}  // namespace weir
