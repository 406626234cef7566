#include "tests/faults/failed_calls.hpp"

#include <algorithm>
#include <random>
#include <set>

#include "tests/faults/saving_job.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

struct Failure {
  std::string kind;
  bool stays;
  std::string reason;           ///< what the system calls it; empty: nothing has failed
  std::set<std::string> names;  ///< calls that can fail so; empty: all
};

// A call that is interrupted each time could never be made, so EINTR does not stay.
const std::vector<Failure>& failures() {
  static const std::vector<Failure> all = {
      {"EIO", false, "Input/output error", {}},
      {"ENOSPC", false, "No space left on device", {}},
      {"EIO", true, "Input/output error", {}},
      {"ENOSPC", true, "No space left on device", {}},
      {"EINTR",
       false,
       "",
       {"open", "write", "pwrite", "ftruncate", "posix_fallocate", "fsync", "close"}},
      {"short", false, "", {"write", "pwrite"}},
      {"short", true, "", {"write", "pwrite"}},
  };
  return all;
}

/// Calls, one of which is to fail.
struct FailurePlace {
  RankPoints calls;
  const Failure* failure;
};

class FailedCalls final : public Part {
 public:
  index_t prepare(bool is_long) override {
    jobs_ = saving_jobs(folder_);
    if (is_long) {
      every_call();
    } else {
      a_few();
    }
    return controls() + std::ssize(places_);
  }

  index_t controls() const override { return 1; }

  void attempt(index_t trial, std::uint64_t seed) override {
    std::mt19937_64 random(seed);
    const fs::path run = folder_ / ("run" + std::to_string(trial));
    if (trial < controls()) {
      expect_noticed(run, random);
    } else {
      const FailurePlace& place = places_[trial - controls()];
      fail(place, place.calls.points[random() % place.calls.points.size()], run);
    }
    fs::remove_all(run);
  }

 private:
  static bool can_fail(const Call& call, const Failure& failure) {
    return failure.names.empty() || failure.names.contains(call.name);
  }

  /// `count` trials of a rank, which take turns among the failures.
  void add(const SavingJob& job, index_t rank, index_t count) {
    const std::vector<std::vector<index_t>> sets = spread_over(job.points(rank), count);
    std::size_t next = 0;
    for (const std::vector<index_t>& set : sets) {
      const Call& call = job.points(rank)[set.front()].call;
      do {
        ++next;
      } while (!can_fail(call, failures()[next % failures().size()]));
      const Failure& failure = failures()[next % failures().size()];
      std::vector<index_t> points;
      std::ranges::copy_if(set, std::back_inserter(points), [&](index_t at) {
        return can_fail(job.points(rank)[at].call, failure);
      });
      places_.push_back({{&job, rank, points}, &failure});
    }
  }

  void a_few() {
    add(*jobs_[0], 0, 44);  // one process
    add(*jobs_[1], 1, 4);   // the server of one
    add(*jobs_[2], 0, 4);   // a worker
    add(*jobs_[2], 2, 4);   // the second server of two
    add(*jobs_[4], 0, 4);   // a replica that saves
  }

  /// All calls and failures in an order that has a fair sample at each time.
  void every_call() {
    for (const RankPoints& each : each_point(jobs_)) {
      const Call& call = each.job->points(each.rank)[each.points.front()].call;
      for (const Failure& failure : failures()) {
        if (can_fail(call, failure)) places_.push_back({each, &failure});
      }
    }
    std::ranges::shuffle(places_, std::mt19937_64(1));
  }

  void fail(const FailurePlace& place, index_t at, const fs::path& run) {
    const auto& [job_at, rank, points] = place.calls;
    const SavingJob& job = *job_at;
    const Failure& failure = *place.failure;
    const Faulted faulted = job.run_with_fault(
        run, job.points(rank)[at],
        {.below = {}, .kind = failure.kind, .stays = failure.stays, .rank = rank});
    try {
      expect(faulted.struck, "the call was never made");
      if (failure.reason.empty()) {
        expect_nothing_happened(job, faulted.ended, run);
      } else {
        expect_sound(place, faulted, run);
        expect_goes_on(job, run, faulted.ended);
      }
    } catch (const std::exception& error) {
      throw Error(text(failure.kind, failure.stays ? " from " : " in ", faulted.where, ": ",
                       error.what(), "; exit code ", faulted.ended.exit_code,
                       ", said: ", faulted.ended.output));
    }
  }

  static void expect_nothing_happened(const SavingJob& job, const Ended& ended,
                                      const fs::path& run) {
    expect(ended.exit_code == 0, "the job failed");
    job.expect_whole(run, {});
    job.expect_same_bits(run);
    job.expect_same_files(run);
  }

  /// Throws Error unless the failed job has kept what it had committed, and said what was wrong.
  static void expect_sound(const FailurePlace& place, const Faulted& faulted, const fs::path& run) {
    const Ended& ended = faulted.ended;
    expect(!ended.timed_out, "the job hangs");
    expect(ended.exit_code == 0 || ended.exit_code == 1 || ended.exit_code == 74,
           "the job ended with ", ended.exit_code);
    std::vector<std::vector<Call>> made = faulted.calls;
    std::erase_if(made[place.calls.rank], &Call::struck);
    place.calls.job->expect_whole(run, made);
    if (ended.exit_code == 0) return place.calls.job->expect_same_bits(run);
    expect(says(ended, place.failure->reason), "nobody says why");
    const bool by_save = says(ended, "tried again for");
    expect((ended.exit_code == 74) == by_save, "the exit code is wrong");
  }

  /// Throws Error unless the job can be resumed now that nothing fails. A replica that steps by
  /// itself and could not save its moments says that they begin anew; other bits follow from that.
  static void expect_goes_on(const SavingJob& job, const fs::path& run, const Ended& failed) {
    const Ended resumed = job.run(run);
    expect(resumed.exit_code == 0, "resumed, it ended with ", resumed.exit_code, ": ",
           resumed.output);
    job.expect_whole(run, {});
    const bool lost_moments = says(failed, "the checkpoint of step") && says(resumed, "begin anew");
    if (!lost_moments) job.expect_same_bits(run);
    job.expect_same_files(run, true);
  }

  static bool says(const Ended& ended, const std::string& words) {
    return ended.output.find(words) != std::string::npos;
  }

  /// A disk that says yes and writes nothing: this must be seen when the data are read.
  void expect_noticed(const fs::path& run, std::mt19937_64& random) {
    const SavingJob& job = *jobs_[0];
    constexpr index_t kTries = 20;
    for (index_t each = 0; each < kTries; ++each) {
      const Point point = {.call = {},
                           .nth = 1 + static_cast<index_t>(random() % (job.points(0).size() / 2))};
      try {
        const Faulted faulted = job.run_with_fault(
            run, point, {.below = {}, .kind = "skip", .stays = true, .only = "pwrite", .rank = 0});
        expect_nothing_happened(job, faulted.ended, run);
      } catch (const Error&) {
        return;
      }
    }
    throw Error(text("nobody noticed writes that were never made in ", kTries, " trials"));
  }

  TemporaryFolder folder_;
  SavingJobs jobs_;
  std::vector<FailurePlace> places_;
};

}  // namespace

std::unique_ptr<Part> failed_calls() { return std::make_unique<FailedCalls>(); }

}  // namespace weir::test
