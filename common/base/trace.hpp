#pragma once

#include <cstdint>
#include <vector>

#include "common/base/index.hpp"
#include "common/base/machine.hpp"

namespace weir {

/// What this process did, span by span, for a trace of the job (launch/trace). There is one record
/// a process, as there is one of its activity: every wait writes to it. It is off unless
/// start_trace() was called; a span then costs no reading of the clock. Only the thread that trains
/// makes spans.

enum class SpanKind : std::uint8_t {
  action,    ///< an action of the schedule
  wait,      ///< a wait for others; it encloses what the rank serves meanwhile
  server,    ///< the server on this rank moves or computes something
  transfer,  ///< a bucket on its way; transfers overlap each other and everything else
};

/// Something that began and ended. Numbers that mean nothing to it are -1.
struct Span {
  SpanKind kind = SpanKind::action;
  bool validates = false;      ///< it belongs to a validation after `step`
  const char* what = nullptr;  ///< a literal
  double begin_s = 0;          ///< as seconds_now() says
  double end_s = 0;
  index_t step = 0;  ///< the step under way, from 1 on
  std::int32_t chunk = -1;
  std::int32_t micro_batch = -1;
  std::int32_t peer = -1;   ///< a rank of the job
  std::int32_t piece = -1;  ///< a wait's bucket; a transfer's place among the peer's buckets
};

/// The newest spans, in the order in which they ended, and how many older ones had no room.
struct SpanRecord {
  std::vector<Span> spans;
  index_t dropped_count = 0;
};

namespace detail {
inline constinit bool trace_is_on = false;
}
inline bool trace_is_on() { return detail::trace_is_on; }

/// Spans that a rank keeps: 11 MB.
inline constexpr index_t kSpansMax = 200'000;

/// From now on spans are recorded, the newest `spans_max` of them.
void start_trace(index_t spans_max = kSpansMax);
/// Ends that, and returns what was recorded.
SpanRecord end_trace();

/// When something begins: now, or 0 if nothing is recorded.
inline double span_begin() { return trace_is_on() ? seconds_now() : 0; }
/// Records a span that ends now; nothing if its begin_s is 0. Its step is that of the activity's
/// record.
void record_span(Span span);
/// The same for a span whose end is known.
void record_span_until(Span span, double end_s);

/// Records a span as long as it lives.
class Traced {
 public:
  explicit Traced(const Span& span) : span_(span) { span_.begin_s = span_begin(); }
  Traced(const Traced&) = delete;
  Traced& operator=(const Traced&) = delete;
  ~Traced() {
    if (span_.begin_s > 0) record_span(span_);
  }

 private:
  Span span_;
};

}  // namespace weir
