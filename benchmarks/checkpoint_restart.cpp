// How long a job under `weir run` needs from the death of a rank to its next step.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <optional>

#include "benchmarks/checkpoint_measures.hpp"
#include "benchmarks/job.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/run/live.hpp"
#include "launch/run/run_folder.hpp"
#include "launch/supervise/process.hpp"

namespace weir::benchmark {
namespace {

/// A supervised job, seen from outside: the lines that it writes, and when.
class WatchedJob {
 public:
  WatchedJob(const std::vector<std::string>& words, fs::path run) : run_(std::move(run)) {
    Pipe pipe = make_pipe();
    const File nothing(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
    process_ = start_process(words,
                             {.ends_with_parent = SIGTERM,
                              .in = nothing.descriptor(),
                              .out = nothing.descriptor(),
                              .error = pipe.in.descriptor()},
                             [] {});
    said_ = std::move(pipe.out);
    fcntl(said_.descriptor(), F_SETFL, O_NONBLOCK);
  }

  /// A second request ends the job at once. Its ranks end with it.
  ~WatchedJob() {
    kill(process_, SIGTERM);
    kill(process_, SIGTERM);
    waitpid(process_, nullptr, 0);
  }
  WatchedJob(const WatchedJob&) = delete;
  WatchedJob& operator=(const WatchedJob&) = delete;

  /// When the first line with these words came, at `since` or later. Waits for it.
  double when(std::string_view words, double since) {
    double found = 0;
    await(text("a line with `", words, "`"), [&] {
      look();
      for (const Line& line : lines_) {
        if (line.at < since || line.words.find(words) == std::string::npos) continue;
        found = line.at;
        return true;
      }
      return false;
    });
    return found;
  }

  /// Waits until a step above `step` is committed, and returns it.
  index_t committed_after(index_t step) {
    index_t newest = -1;
    await("a checkpoint", [&] {
      look();
      const auto all = checkpoints_in(RunFolder::checkpoints_of(run_));
      if (!all.empty()) newest = all.begin()->first;
      return newest > step;
    });
    return newest;
  }

  /// Waits until the rank has said which process it is, and ends that. Returns when.
  double kill_rank(index_t rank) {
    std::optional<LiveRecord> found;
    await(text("rank ", rank, "'s record"), [&] {
      look();
      found = read_live_record(live_folder(run_) / live_name(rank));
      return found && found->process != killed_;
    });
    killed_ = found->process;
    look();
    const double now = seconds_now();
    kill(static_cast<pid_t>(killed_), SIGKILL);
    return now;
  }

 private:
  struct Line {
    double at;
    std::string words;
  };

  template <class Done>
  void await(const std::string& what, const Done& done) {
    constexpr double kSecondsMax = 120;
    const double begin = seconds_now();
    while (!done()) {
      if (seconds_now() - begin < kSecondsMax && waitpid(process_, nullptr, WNOHANG) == 0) {
        sleep_microseconds(500);
        continue;
      }
      std::string all;
      for (const Line& line : lines_) all += line.words + '\n';
      throw Error(text("waited in vain for ", what, "; the job said:\n", all));
    }
  }

  /// Takes down what has been written since the last look.
  void look() {
    const double now = seconds_now();
    char bytes[4096];
    for (ssize_t count; (count = ::read(said_.descriptor(), bytes, sizeof bytes)) > 0;) {
      take(said_rest_, {bytes, static_cast<std::size_t>(count)}, now);
    }
    std::ifstream metrics(run_ / "metrics.jsonl", std::ios::binary);
    metrics.seekg(metrics_bytes_);
    while (metrics.read(bytes, sizeof bytes) || metrics.gcount() > 0) {
      metrics_bytes_ += metrics.gcount();
      take(metrics_rest_, {bytes, static_cast<std::size_t>(metrics.gcount())}, now);
    }
  }

  void take(std::string& rest, std::string_view bytes, double now) {
    for (const char letter : bytes) {
      if (letter == '\n') {
        lines_.push_back({now, std::exchange(rest, "")});
      } else {
        rest += letter;
      }
    }
  }

  fs::path run_;
  pid_t process_;
  File said_;
  index_t killed_ = -1;
  index_t metrics_bytes_ = 0;
  std::string said_rest_, metrics_rest_;  ///< lines without their ends yet
  std::vector<Line> lines_;
};

constexpr std::string_view kStepLine = "\"kind\":\"step\"";

}  // namespace

RestartTimes measure_restarts(const JobSize& size, const fs::path& folder,
                              const std::string& corpus, index_t kills) {
  const fs::path run = folder / "supervised";
  std::vector<std::string> words = {weir_path(),
                                    "run",
                                    text("--restarts=", kills),
                                    "--",
                                    "-n",
                                    "2",
                                    "train",
                                    text("--run=", run.string()),
                                    "--progress=none",
                                    "--steps=1000000",
                                    text("--checkpoint-every=", size.checkpoint_every)};
  const std::vector<std::string> options = size.options(corpus);
  words.insert(words.end(), options.begin(), options.end());
  WatchedJob job(words, run);
  RestartTimes times;
  index_t committed = 0;
  for (index_t each = 0; each < kills; ++each) {
    committed = job.committed_after(committed);
    job.when(kStepLine, seconds_now());
    const double killed = job.kill_rank(each % 2);
    const auto add = [&](Times& to, std::string_view line, double since) {
      const double at = job.when(line, since);
      to.push_back(at - killed);
      return at;
    };
    add(times.named, "was killed by signal 9", killed);
    const double ended = add(times.ended, "is started again", killed);
    add(times.verified, "goes on from", ended);
    const double loaded = add(times.loaded, "\"kind\":\"start\"", ended);
    add(times.stepped, kStepLine, loaded);
  }
  return times;
}

JobTimes measure_job(const JobSize& size, const std::vector<std::string>& layout,
                     const std::string& corpus, index_t saves) {
  const ScratchFolder scratch;
  const fs::path run = scratch.path() / "run";
  const index_t every = size.checkpoint_every;
  std::vector<std::string> options = size.options(corpus);
  options.insert(options.end(), layout.begin(), layout.end());
  options.push_back(text("--checkpoint-every=", every));
  options.push_back(text("--steps=", every * (saves + 2)));
  const JobRecord record = train(2, options, run);
  const Times& seconds = record.column("step", "step_s");
  JobTimes times;
  times.state_bytes =
      File::open(checkpoints_in(RunFolder::checkpoints_of(run)).begin()->second / "model.h5")
          .size();
  // The first half of the steps from one with a checkpoint on may be disturbed. The first
  // checkpoint also makes room for copies, and the last one ends the job.
  const index_t disturbed = every / 2;
  for (index_t step = every; step < every * (saves + 2) - 1; ++step) {
    if (step % every > disturbed) times.steps.push_back(seconds[step - 1]);
  }
  Times sorted = times.steps;
  std::ranges::nth_element(sorted, sorted.begin() + std::ssize(sorted) / 2);
  const double usual = sorted[sorted.size() / 2];
  for (index_t save = 2; save <= saves + 1; ++save) {
    double more = 0;
    for (index_t step = save * every; step <= save * every + disturbed; ++step) {
      more += seconds[step - 1] - usual;
    }
    times.saves.push_back(more);
  }
  return times;
}

std::vector<std::string> JobSize::options(const std::string& corpus) const {
  return {text("--model.layers=", layers),
          text("--model.width=", width),
          text("--model.feed-forward=", 4 * width),
          "--model.heads=8",
          text("--length=", length),
          "--batch=2",
          "--micro-batch=1",
          "--eval-every=0",
          "--data.files=" + corpus,
          text("--data.held-out=", length + 1)};
}

}  // namespace weir::benchmark
