#include "launch/trace/job_trace.hpp"

#include <algorithm>
#include <array>

#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/base/trace.hpp"
#include "common/net/agree.hpp"
#include "launch/trace/trace_text.hpp"

namespace weir {
namespace {

/// The file is written while the texts of the ranks come in. After an error they still come.
class TraceFile {
 public:
  explicit TraceFile(const fs::path& path) {
    error_ = error_of([&] { file_.emplace(path); });
  }
  void write(std::string_view text) {
    if (!error_) error_ = error_of([&] { file_->write(text); });
  }
  void commit() {
    if (!error_) error_ = error_of([&] { file_->commit(); });
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  std::optional<FreshFile> file_;
  std::optional<Error> error_;
};

std::string summary_of(const fs::path& file, index_t span_count, int rank_count,
                       double clock_error_s, index_t dropped_count) {
  std::string line =
      text("trace ", file.string(), ": ", span_count, " spans of ", rank_count, " ranks");
  if (clock_error_s == 0) {
    line += " on one clock";
  } else {
    line +=
        text(", whose clocks agree within ", static_cast<index_t>(1e6 * clock_error_s + 1), " us");
  }
  if (dropped_count == 0) return line + "; none was dropped";
  return line + text("; ", dropped_count, " older ones had no room (a rank keeps ", kSpansMax, ")");
}

}  // namespace

void JobTrace::check_file(const fs::path& file) {
  const auto found = error_of([&] {
    if (path_exists(file) && !fs::is_regular_file(file)) {
      throw Error(text("it is ", name_of(fs::status(file).type()), ", not a regular file"));
    }
    FreshFile trial(file);  // not committed: it is removed again
  });
  if (found) throw UsageError(text("--trace ", file.string(), ": ", found->what()));
}

JobTrace::JobTrace(const Comm& world, const Comm& host, const Layout& layout, fs::path file)
    : world_(world), host_(host), layout_(layout), file_(std::move(file)) {
  if (world_) first_ = read_clock(world_, host_);
  zero_s_ = seconds_now();
  if (world_) world_.broadcast(std::as_writable_bytes(std::span(&zero_s_, 1)), 0);
  start_trace();
}

JobTrace::~JobTrace() {
  if (trace_is_on()) end_trace();
}

void JobTrace::write() {
  TracedRank own;
  own.record = end_trace();
  own.host = host_name();
  if (world_) {
    own.rank = world_.rank();
    own.role = layout_.role(own.rank);
    own.is_worker = layout_.is_worker(own.rank);
    if (own.is_worker) own.place = layout_.worker(own.rank);
    own.clock = {first_, read_clock(world_, host_)};
  }
  std::array<double, 2> totals = {static_cast<double>(own.record.spans.size()),
                                  static_cast<double>(own.record.dropped_count)};
  double error_s = own.clock.error_s();
  const std::string events = events_text(own, zero_s_);
  if (world_) {
    world_.sum(totals);
    error_s = world_.max(error_s);
  }
  const index_t dropped = static_cast<index_t>(totals[1]);
  if (own.rank > 0) return world_.collect(events, {});

  TraceFile file(file_);
  file.write(trace_begin());
  const auto take = [&](std::string_view part) { file.write(part); };
  world_ ? world_.collect(events, take) : take(events);
  file.write(trace_end(WEIR_VERSION, error_s, dropped));
  file.commit();
  if (file.error()) {
    log_error(text("no trace: ", file.error()->what()));
    return;
  }
  log_info(summary_of(file_, static_cast<index_t>(totals[0]), world_ ? world_.size() : 1, error_s,
                      dropped));
}

}  // namespace weir
