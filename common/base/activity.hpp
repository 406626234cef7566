#pragma once

#include <atomic>
#include <cstdint>

#include "common/base/index.hpp"
#include "common/base/trace.hpp"

namespace weir {

/// What this process does now, for another thread that looks from time to time: the watchdog, which
/// also shows it to people (launch/run/watchdog). There is one record a process, as there is one
/// log: every wait writes to it, and none of them could be handed an object.
///
/// Only the thread that trains writes phase, step and needs; any thread may note moves and file
/// work. All of it is relaxed stores of single values. A reader may see the peer of one wait beside
/// the words of the next; the next look is right.

/// Where a job is. Each has deadlines of its own.
enum class JobPhase : int { start, load, train, validate, close };
const char* name_of(JobPhase phase);

/// A peer that is no rank.
inline constexpr int kNobody = -1;
inline constexpr int kSeveralRanks = -2;

/// What somebody waits for: `the directive`, of rank 3.
struct Need {
  const char* what = nullptr;  ///< a literal, since it may be read at any time; none: no wait
  int peer = kNobody;          ///< a rank of the job
  index_t bucket = -1;         ///< -1: it is about none
  bool of_server = false;      ///< the server on that rank is meant
};

/// What a look at the record sees.
struct ActivityNow {
  JobPhase phase = JobPhase::start;
  index_t step = 0;
  Need need;                        ///< what the thread that trains waits for
  Need server_need;                 ///< what the server on this rank lacks
  const char* file_work = nullptr;  ///< the newest work with files that has not ended
  std::uint64_t moves = 0;          ///< grows whenever anything goes on
};
ActivityNow activity_now();

namespace detail {

struct NeedRecord {
  std::atomic<const char*> what{nullptr};
  std::atomic<int> peer{kNobody};
  std::atomic<index_t> bucket{-1};
  std::atomic<bool> of_server{false};

  Need load() const {
    return {what.load(std::memory_order_relaxed), peer.load(std::memory_order_relaxed),
            bucket.load(std::memory_order_relaxed), of_server.load(std::memory_order_relaxed)};
  }
  void store(const Need& need) {
    what.store(need.what, std::memory_order_relaxed);
    peer.store(need.peer, std::memory_order_relaxed);
    bucket.store(need.bucket, std::memory_order_relaxed);
    of_server.store(need.of_server, std::memory_order_relaxed);
  }
};

struct ActivityRecord {
  std::atomic<JobPhase> phase{JobPhase::start};
  std::atomic<index_t> step{0};
  NeedRecord need;
  NeedRecord server_need;
  std::atomic<int> file_work_count{0};
  std::atomic<const char*> file_work{nullptr};
  std::atomic<std::uint64_t> moves{0};
};
inline constinit ActivityRecord activity_record;
/// A thread that only looks must not be taken for one that goes on.
inline constinit thread_local bool activity_is_hidden = false;

}  // namespace detail

/// Something went on: a message came, a file was written.
inline void note_move() {
  if (detail::activity_is_hidden) return;
  detail::activity_record.moves.fetch_add(1, std::memory_order_relaxed);
}

inline void note_phase(JobPhase phase) {
  detail::activity_record.phase.store(phase, std::memory_order_relaxed);
  note_move();
}

inline void note_step(index_t step) {
  detail::activity_record.step.store(step, std::memory_order_relaxed);
}

/// What the server on this rank lacks while nothing moves.
inline void note_server_need(const Need& need) { detail::activity_record.server_need.store(need); }

/// From now on nothing that this thread does counts.
inline void hide_activity_of_this_thread() { detail::activity_is_hidden = true; }

/// Says what this thread waits for, as long as it lives; then what it said before holds again. A
/// trace shows it as a span.
class Waiting {
 public:
  explicit Waiting(const Need& need)
      : outer_(detail::activity_record.need.load()),
        traced_({.kind = SpanKind::wait,
                 .what = need.what,
                 .peer = need.peer,
                 .piece = static_cast<std::int32_t>(need.bucket)}) {
    say(need);
  }
  explicit Waiting(const char* what, int peer = kSeveralRanks) : Waiting(Need{what, peer}) {}
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() { say(outer_); }

 private:
  static void say(const Need& need) {
    detail::activity_record.need.store(need);
    note_move();
  }
  const Need outer_;
  const Traced traced_;
};

/// Work with files, as long as it lives, in any thread. A disk may be slow, so it has a longer
/// deadline (see launch/run/watchdog.hpp).
class FileWork {
 public:
  /// what: a literal, such as `fsync`.
  explicit FileWork(const char* what) : outer_(detail::activity_record.file_work) {
    if (detail::activity_is_hidden) return;
    detail::activity_record.file_work.store(what, std::memory_order_relaxed);
    detail::activity_record.file_work_count.fetch_add(1, std::memory_order_relaxed);
    note_move();
  }
  FileWork(const FileWork&) = delete;
  FileWork& operator=(const FileWork&) = delete;
  ~FileWork() {
    if (detail::activity_is_hidden) return;
    detail::activity_record.file_work.store(outer_, std::memory_order_relaxed);
    detail::activity_record.file_work_count.fetch_sub(1, std::memory_order_relaxed);
    note_move();
  }

 private:
  const char* const outer_;
};

}  // namespace weir
