#include "launch/trace/trace_text.hpp"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/base/error.hpp"

namespace weir {
namespace {

const char* category_of(SpanKind kind) {
  switch (kind) {
    case SpanKind::action:
      return "action";
    case SpanKind::wait:
      return "wait";
    case SpanKind::server:
      return "server";
    case SpanKind::transfer:
      return "transfer";
  }
  WEIR_UNREACHABLE();
}

/// Microseconds with nanoseconds behind the point. Rounded, so that spans which nest still do.
std::string microseconds(double seconds) {
  std::array<char, 40> digits{};
  std::snprintf(digits.data(), digits.size(), "%.3f", 1e6 * seconds);
  return digits.data();
}

std::string arguments_of(const Span& span) {
  std::string words = text("{\"", span.validates ? "validation_after" : "step", "\":", span.step);
  const auto add = [&](const char* name, std::int32_t value) {
    if (value >= 0) words += text(",\"", name, "\":", value);
  };
  add("chunk", span.chunk);
  add("micro_batch", span.micro_batch);
  add("peer", span.peer);
  add(span.kind == SpanKind::transfer ? "frame" : "bucket", span.piece);
  return words + '}';
}

/// Names of spans are literals of weir, without anything to escape.
std::string head_of(const Span& span, const char* phase, int rank, const std::string& time) {
  return text("{\"name\":\"", span.kind == SpanKind::wait ? "wait: " : "", span.what,
              "\",\"cat\":\"", category_of(span.kind), "\",\"ph\":\"", phase, "\",\"ts\":", time,
              ",\"pid\":", rank, ",\"tid\":0");
}

std::string about(const TracedRank& rank, double zero_s) {
  using Json = nlohmann::ordered_json;
  const std::string name =
      text("rank ", rank.rank, rank.role.empty() ? "" : ": ", rank.role, ", ", rank.host);
  Json arguments = {{"name", name},
                    {"host", rank.host},
                    {"clock_ahead_us", 1e6 * rank.clock.ahead_at(zero_s)},
                    {"clock_error_us", 1e6 * rank.clock.error_s()},
                    {"dropped_spans", rank.record.dropped_count}};
  if (rank.is_worker) {
    arguments["replica"] = rank.place.replica;
    arguments["stage"] = rank.place.stage;
    arguments["context"] = rank.place.context;
    arguments["shard"] = rank.place.shard;
  }
  const Json named = {
      {"name", "process_name"}, {"ph", "M"}, {"pid", rank.rank}, {"args", arguments}};
  const Json sorted = {{"name", "process_sort_index"},
                       {"ph", "M"},
                       {"pid", rank.rank},
                       {"args", {{"sort_index", rank.rank}}}};
  // A host's name may hold any byte.
  constexpr auto kReplace = Json::error_handler_t::replace;
  return text(named.dump(-1, ' ', false, kReplace), ",\n", sorted.dump(), ",\n");
}

}  // namespace

std::string trace_begin() { return "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"; }

std::string events_text(const TracedRank& rank, double zero_s) {
  std::string all = about(rank, zero_s);
  index_t transfer = 0;
  for (const Span& span : rank.record.spans) {
    const double begin_s = rank.clock.to_rank_0(span.begin_s) - zero_s;
    const double end_s = rank.clock.to_rank_0(span.end_s) - zero_s;
    const std::string begin = microseconds(begin_s);
    if (span.kind == SpanKind::transfer) {
      const std::string id = text(",\"id\":\"", rank.rank, '.', transfer++, '"');
      all += text(head_of(span, "b", rank.rank, begin), id, ",\"args\":", arguments_of(span),
                  "},\n", head_of(span, "e", rank.rank, microseconds(end_s)), id, "},\n");
    } else {
      // The length follows from the rounded ends: a span that ends in another still does so.
      const double length_us = std::stod(microseconds(end_s)) - std::stod(begin);
      all += text(head_of(span, "X", rank.rank, begin), ",\"dur\":", microseconds(1e-6 * length_us),
                  ",\"args\":", arguments_of(span), "},\n");
    }
  }
  return all;
}

std::string trace_end(const std::string& version, double clock_error_s, index_t dropped_count) {
  return text(
      "{\"name\":\"trace ends\",\"ph\":\"M\",\"pid\":0,\"args\":{}}\n],\"otherData\":{\"weir\":\"",
      version, "\",\"clock_error_us\":", microseconds(clock_error_s),
      ",\"dropped_spans\":", dropped_count, "}}\n");
}

}  // namespace weir
