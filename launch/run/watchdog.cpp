#include "launch/run/watchdog.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <system_error>

#include "common/base/log.hpp"
#include "common/base/safe_text.hpp"
#include "launch/run/hang.hpp"

namespace weir {
namespace {

constexpr double kLookSeconds = 0.1;
constexpr double kShowSeconds = 1;
constexpr double kStillShowSeconds = 0.3;
/// A busy machine may keep a rank from writing its record for so long.
constexpr double kFreshSeconds = 1.5;
constexpr double kWindowSeconds = 10;  // of rates
/// A rest that took longer than this means that the process was stopped.
constexpr double kStoppedSeconds = 1;
/// How long a rank that was stopped does not follow others that end.
constexpr double kWokenSeconds = 5;
/// How long a rank that ends may work with files, all in all, and may wait for the reports of
/// others.
constexpr double kLastFilesSeconds = 3;
constexpr double kReportSeconds = 1;
/// What the rank that speaks for all gets before others end: mpirun then kills it.
constexpr index_t kSpeakMicroseconds = 300'000;
/// Records have this length, so that one can be written over the last where a disk is full.
constexpr std::size_t kRecordBytes = 1024;

/// Straight to the system: the thread that trains may be stuck while it holds the log.
void say(const std::string& words) {
  const std::string line = safe_text(text("weir: ", words, '\n'));
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

LiveNeed named(const Need& need) {
  if (need.what == nullptr) return {};
  return {.what = need.what, .peer = need.peer, .bucket = need.bucket, .of_server = need.of_server};
}

/// A thread that gets no signals: those are for the thread that trains.
template <class Work>
std::thread quiet_thread(Work work) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread([work] {
      hide_activity_of_this_thread();
      work();
    });
  } catch (const std::system_error& error) {
    log_warning(text("no watchdog: cannot start a thread: ", error.what()));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace

std::vector<Option> options(WatchdogConfig& config) {
  return {
      {"watchdog",
       "",
       "on: a job that stands still ends with exit code 86, and the rank that all wait for is "
       "named; off: for debuggers",
       choice(config.on, {{"on", true}, {"off", false}}),
       {},
       Scope::machine},
      {"watchdog.floor",
       "s",
       "the shortest time after which a job in which nothing goes on is taken for stuck; ten times "
       "as long where files are read or written",
       &config.floor_s,
       {1, 1e9},
       Scope::machine},
  };
}

Watchdog::Watchdog(const WatchdogConfig& config, WatchedRank watched)
    : config_(config),
      watched_(std::move(watched)),
      host_(host_name()),
      files_since_s_(-1),
      files_for_s_(10 * config.floor_s),
      stillness_(config.floor_s, 0) {
  time_keeper_ = quiet_thread([this] { keep_time(); });
  if (time_keeper_.joinable()) watcher_ = quiet_thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  // The watcher first: if its disk hangs, the other ends the process.
  for (auto* const thread : {&watcher_, &time_keeper_}) {
    {
      const std::lock_guard lock(mutex_);
      ++ended_count_;
    }
    ending_.notify_all();
    if (thread->joinable()) thread->join();
  }
  std::error_code ignored;
  fs::remove(live_folder(watched_.run) / live_name(watched_.rank), ignored);
  fs::remove(live_folder(watched_.run), ignored);  // the last rank succeeds
}

bool Watchdog::rest(double seconds, int end) {
  std::unique_lock lock(mutex_);
  return ending_.wait_for(lock, std::chrono::duration<double>(seconds),
                          [&] { return ended_count_ >= end; });
}

void Watchdog::keep_time() {
  double before_s = seconds_now();
  while (!rest(kLookSeconds, 2)) {
    const double now_s = seconds_now();
    const double rested_s = now_s - before_s;
    before_s = now_s;
    awake_s_ = awake_s_ + (rested_s < kStoppedSeconds ? rested_s : kLookSeconds);
    const double since_s = files_since_s_;  // once: the other thread may end its work meanwhile
    if (!config_.on || since_s < 0 || awake_s_ - since_s < files_for_s_) continue;
    say(text(watched_.role, ": the disk of ", watched_.run.string(), " has not answered for ",
             static_cast<index_t>(files_for_s_), " s; ends with 86"));
    _exit(static_cast<int>(ExitCode::hang));
  }
}

void Watchdog::watch() {
  double shown_s = -show_s();
  double looked_at_s = seconds_now(), joins_from_s = looked_at_s;
  while (!rest(kLookSeconds, 1)) {
    // mpirun wakes a rank that was stopped before it kills it: that one must not report.
    const double now_s = seconds_now();
    if (now_s - looked_at_s > kStoppedSeconds) joins_from_s = now_s + kWokenSeconds;
    looked_at_s = now_s;
    const bool was_in_time = stillness_.in_time();
    look();
    const bool in_time = stillness_.in_time();
    const double pause_s = in_time ? show_s() : kStillShowSeconds;
    if (awake_s_ - shown_s < pause_s && in_time == was_in_time) continue;
    shown_s = awake_s_;
    files_since_s_ = shown_s;
    end_if_superseded();
    show();
    const bool ends =
        config_.on && is_shown_ &&
        ((now_s >= joins_from_s && others_have_ended()) || (!in_time && !others_are_in_time()));
    files_since_s_ = -1;
    if (ends) end_rank();
  }
}

void Watchdog::look() {
  const double now_s = awake_s_;
  const double computed_s = computed_.seconds();
  const ActivityNow activity = activity_now();
  stillness_.look(now_s, activity, computed_s);
  // The step that a job resumes from was not made in this second.
  if (activity.step > 0 && !looks_.empty() && looks_.front().step == 0) looks_.clear();
  looks_.push_back({now_s, activity.step, computed_s, activity.need.what != nullptr});
  while (now_s - looks_.front().now_s > kWindowSeconds) looks_.pop_front();
}

LiveRecord Watchdog::record() const {
  const ActivityNow& activity = stillness_.activity();
  LiveRecord record;
  record.rank = watched_.rank;
  record.ranks = watched_.ranks;
  record.role = watched_.role;
  record.host = host_;
  record.process = getpid();
  record.phase = name_of(activity.phase);
  record.step = activity.step;
  record.need = named(activity.need);
  record.server_need = named(activity.server_need);
  if (activity.file_work != nullptr) record.file_work = activity.file_work;
  record.still_s = stillness_.still_s();
  record.deadline_s = stillness_.deadline_s();
  record.in_time = stillness_.in_time();
  const Look& first = looks_.front();
  const Look& last = looks_.back();
  const double seconds = last.now_s - first.now_s;
  if (seconds <= 0) return record;
  record.steps_a_second = static_cast<double>(last.step - first.step) / seconds;
  if (record.is_server()) {  // its thread does nothing but wait and serve
    record.waiting_share = std::clamp(1 - (last.computed_s - first.computed_s) / seconds, 0.0, 1.0);
  } else {
    record.waiting_share = static_cast<double>(std::ranges::count(looks_, true, &Look::waits)) /
                           static_cast<double>(looks_.size());
  }
  return record;
}

/// A part of the job that a cut link has left behind would write over the records of the next one.
void Watchdog::end_if_superseded() const {
  try {
    check_claim(watched_.claim);
  } catch (const SupersededError& error) {
    say(text("[", watched_.role, "] ", error.what()));
    _exit(static_cast<int>(error.code()));
  } catch (const Error&) {  // it cannot be read now, which says nothing
  }
}

void Watchdog::show() {
  const fs::path path = live_folder(watched_.run) / live_name(watched_.rank);
  std::string json = json_of(record());
  json.resize(std::max(json.size(), kRecordBytes), ' ');
  is_shown_ = true;
  try {
    show_file(path, json);
    if (first_shown_unix_s_ < 0) first_shown_unix_s_ = read_live_record(path).value().written_s;
    return;
  } catch (const std::exception&) {
  }
  try {  // a full disk has room where the last record is
    FileSystem& files = posix_file_system();
    File file = files.open_for_writing(path);
    files.write(file, 0, std::as_bytes(std::span(json)));
    files.close(std::move(file));
  } catch (const Error&) {
    is_shown_ = false;
  }
}

/// Several times in the floor, since a rank whose record is older than that counts as stuck.
double Watchdog::show_s() const { return std::min(kShowSeconds, config_.floor_s / 4); }

bool Watchdog::others_have_ended() const {
  return std::ranges::any_of(
      read_live_records(hang_folder(watched_.run)),
      [&](const LiveRecord& other) { return other.written_s >= first_shown_unix_s_; });
}

bool Watchdog::others_are_in_time() const {
  if (watched_.ranks == 1) return false;
  const double fresh_s = std::max(config_.floor_s, kFreshSeconds);
  return std::ranges::any_of(
      read_live_records(live_folder(watched_.run)), [&](const LiveRecord& other) {
        return other.rank != watched_.rank && other.in_time && other.age_s < fresh_s;
      });
}

void Watchdog::end_rank() {
  std::signal(SIGTERM, SIG_IGN);  // mpirun sends it when the first rank has ended
  const LiveRecord own = record();
  say(text("[", watched_.ranks > 1 ? text("rank ", watched_.rank, ", ") : "", watched_.role,
           "] stands still: last moved ", static_cast<index_t>(own.still_s), " s ago (", own.phase,
           ", step ", own.step, ", ", doing_text(own), "); ends with 86"));
  files_for_s_ = kLastFilesSeconds;
  files_since_s_ = awake_s_.load();
  const fs::path folder = hang_folder(watched_.run);
  std::error_code ignored;
  fs::create_directory(folder, ignored);
  try {
    show_file(folder / live_name(watched_.rank), json_of(own));
  } catch (const Error& error) {
    say(error.what());
  }
  // Those that are not stopped still write.
  const std::vector<LiveRecord> seen = read_live_records(live_folder(watched_.run));
  const auto living = std::ranges::count_if(
      seen, [](const LiveRecord& each) { return each.age_s < 1.5 * kShowSeconds; });
  std::vector<LiveRecord> reports = read_live_records(folder);
  for (const double begin_s = seconds_now();
       std::ssize(reports) < living && seconds_now() - begin_s < kReportSeconds;) {
    sleep_microseconds(20'000);
    reports = read_live_records(folder);
  }
  if (!reports.empty() && reports.front().rank == watched_.rank) {
    say(text(kJobStandsStill, describe_hang(reports, seen),
             ". What is committed stands: --resume auto goes on from the newest checkpoint"));
  } else {
    sleep_microseconds(kSpeakMicroseconds);
  }
  _exit(static_cast<int>(ExitCode::hang));
}

}  // namespace weir
