#pragma once

#include <string>

#include "common/base/trace.hpp"
#include "common/job/layout.hpp"
#include "common/net/clocks.hpp"

namespace weir {

/// A trace as text: Chrome's trace format (JSON objects), which Perfetto and chrome://tracing open.
/// Times are microseconds of rank 0's clock since the trace began. A line holds one event:
///
///   {"displayTimeUnit":"ms","traceEvents":[
///   {"name":"process_name","ph":"M","pid":1,…}    a rank, once: its name, place, clock, drops
///   {"name":"forward","cat":"action","ph":"X","ts":…,"dur":…,"pid":1,"tid":0,"args":{…}}
///   {"name":"push","cat":"transfer","ph":"b",…} and {…,"ph":"e",…}: one transfer, with one id
///   ],"otherData":{…}}
///
/// Categories are `action`, `wait`, `server` and `transfer`. Spans of the first three nest. In
/// `args`, `step` is the step under way; a span of a validation has `validation_after` in its
/// place.

/// A rank of the job, and what it has recorded.
struct TracedRank {
  int rank = 0;
  std::string role;  ///< Layout::role
  std::string host;
  WorkerPlace place;  ///< if it is a worker
  bool is_worker = true;
  ClockLine clock;
  SpanRecord record;
};

std::string trace_begin();
/// The events of a rank; `zero_s` is when the trace began, by rank 0's clock.
std::string events_text(const TracedRank& rank, double zero_s);
/// What stands after the last event.
std::string trace_end(const std::string& version, double clock_error_s, index_t dropped_count);

}  // namespace weir
