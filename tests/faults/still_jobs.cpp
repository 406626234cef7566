#include "tests/faults/still_jobs.hpp"

#include <signal.h>

#include <fstream>
#include <iomanip>
#include <mutex>
#include <random>
#include <sstream>

#include "common/base/machine.hpp"
#include "launch/run/hang.hpp"
#include "tests/faults/injection.hpp"
#include "tests/faults/small_jobs.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

enum class Standstill { stopped, lost_message, hung_disk, slow_disk };

const char* name_of(Standstill fault) {
  switch (fault) {
    case Standstill::stopped:
      return "stopped";
    case Standstill::lost_message:
      return "loses a message";
    case Standstill::hung_disk:
      return "its disk hangs";
    case Standstill::slow_disk:
      return "its disk is slow";
  }
  WEIR_UNREACHABLE();
}

double unix_seconds_of(const fs::path& file) {
  std::error_code error;
  const auto time = fs::last_write_time(file, error);
  if (error) return 0;
  return std::chrono::duration<double>(std::chrono::file_clock::to_sys(time).time_since_epoch())
      .count();
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

class StillJobs final : public Part {
 public:
  index_t prepare(bool is_long) override {
    write_corpus(folder_ / "corpus.txt", 20'000, 5);
    choose_trials(is_long);
    digests_ = undisturbed_digests(folder_, layouts_, kSteps, [this](const SmallLayout& layout) {
      return job(layout, layout.name);
    });
    return std::ssize(trials_);
  }

  void attempt(index_t trial, std::uint64_t seed) override {
    const Trial& what = trials_[trial];
    const SmallLayout& layout = layouts_[what.layout];
    std::mt19937_64 random(seed);
    const index_t step = static_cast<index_t>(random() % (kSteps * 3 / 4));
    const std::string name = "run" + std::to_string(trial);
    const fs::path run = folder_ / name, armed = folder_ / (name + ".armed");
    const std::string point = text(" (", layout.name, ", rank ", what.rank, ' ',
                                   name_of(what.fault), " from step ", step, " on): ");
    Process process(command_of(what, name, armed));
    if (what.fault != Standstill::slow_disk) {
      const pid_t rank = rank_of(process, run, what.rank);
      await_step(process, run, step);
      sleep_microseconds(static_cast<index_t>(random() % 20'000));
      if (what.fault == Standstill::stopped) {
        kill(rank, SIGSTOP);
      } else {
        std::ofstream(armed).put('\n');
        while (process.running() && fs::exists(armed)) sleep_microseconds(1000);
      }
      await_end(process, run, unix_seconds(), point);
    }
    const Ended ended = process.wait(180);
    expect(ended.exit_code == 0, "ended with ", ended.exit_code, point, ended.output);
    expect(digests_of(run, kSteps) == digests_[what.layout], "other bits", point, ended.output);
    if (what.fault == Standstill::slow_disk) {
      expect(!has(ended.output, "stands still"), "a watchdog ended it", point, ended.output);
    } else {
      expect_named(what, ended.output, point);
    }
    fs::remove_all(run);
  }

  std::string figures() const override {
    std::ostringstream words;
    words << std::setprecision(2) << "86 came at most " << late_s_max_
          << " s after the deadline; the job was started again at most " << restart_s_max_
          << " s after that. After " << refused_
          << " of the lost messages the next one was refused";
    return words.str();
  }

 private:
  struct Trial {
    Standstill fault;
    std::size_t layout;
    int rank;
  };

  void choose_trials(bool is_long) {
    if (!is_long) {
      disk_floor_s_ = 1;  // a disk may take ten times as long
      layouts_.resize(3);
      trials_ = {{Standstill::hung_disk, 1, 3},
                 {Standstill::stopped, 0, 1},
                 {Standstill::stopped, 2, 0},
                 {Standstill::lost_message, 1, 2}};
      return;
    }
    constexpr int kTimes = 3;
    for (std::size_t at = 0; at < layouts_.size(); ++at) {
      for (const int server : layouts_[at].servers) {
        for (int time = 0; time < kTimes; ++time) {
          trials_.push_back({Standstill::hung_disk, at, server});
        }
        trials_.push_back({Standstill::slow_disk, at, server});
      }
    }
    for (int time = 0; time < kTimes; ++time) {
      for (std::size_t at = 0; at < layouts_.size(); ++at) {
        for (int rank = 0; rank < layouts_[at].ranks; ++rank) {
          trials_.push_back({Standstill::stopped, at, rank});
          trials_.push_back({Standstill::lost_message, at, rank});
        }
      }
    }
  }

  std::vector<std::string> job(const SmallLayout& layout, const std::string& name,
                               int floor_s = kFloorSeconds) const {
    std::vector<std::string> more = {"--steps=" + std::to_string(kSteps),
                                     "--checkpoint-every=2",
                                     "--eval-every=0",
                                     "--inject=sleep=5ms",
                                     "--watchdog.floor=" + std::to_string(floor_s),
                                     "--transport=messages"};
    more.insert(more.end(), layout.words.begin(), layout.words.end());
    return small_job(folder_, name, more);
  }

  std::vector<std::string> command_of(const Trial& what, const std::string& name,
                                      const fs::path& armed) const {
    const SmallLayout& layout = layouts_[what.layout];
    const bool is_disk = what.fault == Standstill::hung_disk || what.fault == Standstill::slow_disk;
    const auto plain = supervised({"--restarts=5"}, layout.ranks,
                                  job(layout, name, is_disk ? disk_floor_s_ : kFloorSeconds));
    const fs::path below = folder_ / name / "checkpoints";
    switch (what.fault) {
      case Standstill::stopped:
        return plain;
      case Standstill::lost_message:
        return with_lost_message(plain, what.rank, armed);
      case Standstill::hung_disk:
        return with_injection(plain,
                              {.below = below, .kind = "hang", .when = armed, .rank = what.rank});
      case Standstill::slow_disk:
        return with_injection(plain, {.below = below,
                                      .at = 1,
                                      .kind = "slow",
                                      .stays = true,
                                      .only = "fsync",
                                      .rank = what.rank});
    }
    WEIR_UNREACHABLE();
  }

  /// Waits until a watchdog has ended the job that went wrong at `since` (in Unix time), and until
  /// it is started again; both in time.
  void await_end(Process& process, const fs::path& run, double since, const std::string& point) {
    std::vector<LiveRecord> reports;
    double longest_nap_s = 0;  // a busy machine lets this process wait as long as the ranks
    while (reports.empty()) {
      const double nap_begin_s = seconds_now();
      if (has(process.output(), "is started again")) return;
      expect(process.running() && unix_seconds() < since + 120, "no watchdog ended it", point,
             process.output());
      sleep_microseconds(5000);
      reports = read_live_records(hang_folder(run));
      longest_nap_s = std::max(longest_nap_s, seconds_now() - nap_begin_s);
    }
    const double ended_at = unix_seconds();
    double deadline_s = 0;
    for (const LiveRecord& report : reports) deadline_s = std::max(deadline_s, report.deadline_s);
    // Steps that need nothing of what is missing go on at first.
    const double still_since = std::max(since, unix_seconds_of(run / "metrics.jsonl"));
    const double late_s = ended_at - still_since - deadline_s;
    expect(late_s <= 2 + 2 * longest_nap_s, "the watchdog took ", late_s, " s more than its ",
           deadline_s, " s", point, process.output());
    while (process.running() && !has(process.output(), "is started again")) {
      sleep_microseconds(5000);
    }
    const std::lock_guard guard(mutex_);
    late_s_max_ = std::max(late_s_max_, late_s);
    restart_s_max_ = std::max(restart_s_max_, unix_seconds() - ended_at);
  }

  void expect_named(const Trial& what, const std::string& output, const std::string& point) {
    if (what.fault == Standstill::lost_message && has(output, "the job ended with 1 and is")) {
      const std::lock_guard guard(mutex_);  // the next message came in its place, and was refused
      ++refused_;
      return;
    }
    expect(has(output, "the job ended with 86 and is started again at once (restart 1 of 5)"),
           "not ended with 86", point, output);
    const std::size_t begin = output.find(kJobStandsStill);
    expect(begin != std::string::npos, "nobody was named", point, output);
    const std::string sentence = output.substr(begin, output.find('\n', begin) - begin);
    const std::string rank = text("rank ", what.rank);
    expect(has(sentence, rank + ',') || has(sentence, rank + ' '), "another rank was named", point,
           sentence, "\n", output);
  }

  static constexpr index_t kSteps = 40;
  static constexpr int kFloorSeconds = 2;
  int disk_floor_s_ = kFloorSeconds;
  TemporaryFolder folder_;
  std::vector<SmallLayout> layouts_ = small_layouts();
  std::vector<std::string> digests_;
  std::vector<Trial> trials_;
  std::mutex mutex_;
  double late_s_max_ = 0, restart_s_max_ = 0;
  index_t refused_ = 0;
};

}  // namespace

std::unique_ptr<Part> still_jobs() { return std::make_unique<StillJobs>(); }

}  // namespace weir::test
