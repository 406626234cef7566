#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <iostream>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/base/options.hpp"
#include "common/base/spelling.hpp"
#include "launch/command.hpp"
#include "launch/run/hang.hpp"
#include "launch/supervise/left_out_hosts.hpp"
#include "launch/supervise/mpirun_job.hpp"
#include "launch/supervise/process.hpp"
#include "launch/supervise/rank.hpp"
#include "launch/supervise/restart_policy.hpp"
#include "launch/supervise/run_progress.hpp"

namespace weir {
namespace {

struct SuperviseConfig {
  index_t restarts = 10;
  double stop_wait_seconds = 60;
  double start_wait_seconds = 600;
  index_t replicas_min = 0;
  std::string binary;
};

std::vector<Option> options(SuperviseConfig& config) {
  return {
      {"restarts",
       "",
       "how often a training job that has failed is started again; 0: never",
       &config.restarts,
       {0, 1e9}},
      {"stop-wait",
       "s",
       "a training job that was asked to stop is ended after this time",
       &config.stop_wait_seconds,
       {0, 1e9}},
      {"start-wait",
       "s",
       "a training job that has not taken its run folder after this time is ended and counts as "
       "failed; 0: it may take any time",
       &config.start_wait_seconds,
       {0, 1e9}},
      {"min-replicas",
       "",
       "a host on which two starts have failed is left out of mpirun's --hostfile, if at least so "
       "many replicas have room on the others; 0: never",
       &config.replicas_min,
       {0, 65536}},
      {"binary", "", "each rank runs this program; empty: this weir", &config.binary},
  };
}

std::string help_of_run() {
  SuperviseConfig standard;
  return help_of_command(
      "run", "[options] -- [mpirun's options] train|eval|plan [weir's options]",
      "Runs a job of several ranks. It is mpirun without its banners, it names a rank that died,\n"
      "and it starts a training job again after a failure, from the newest checkpoint.\n"
      "\n"
      "  weir run -- -n 3 train --replicas 2 --servers 1 --data.files text\n"
      "  weir run -- -n 2 train --replicas 2 --placement colocated --data.files text\n"
      "  weir run --restarts 100 -- --hostfile hosts train --config job.ini\n"
      "  weir run --min-replicas 6 -- --hostfile hosts train --replicas 8 --config job.ini\n"
      "\n"
      "`mpirun-weir WORDS` is short for `weir run --restarts 0 -- WORDS`.\n"
      "\n"
      "SIGUSR1, SIGTERM, SIGINT (Ctrl-C) and SIGHUP stop a training job after its next step and a\n"
      "checkpoint; a second SIGTERM or SIGINT ends it at once. After that nothing is started "
      "again.\n"
      "\n"
      "The first restart comes at once, the next ones after 1, 2, 4 ... 60 s. A start that "
      "commits\n"
      "a checkpoint begins this anew. After three starts in a row that commit none, the job is\n"
      "given up with exit code 93.\n"
      "\n"
      "Exit codes, and whether the job is started again:\n"
      "   0  done                                            no\n"
      "   1  error, or mpirun lost a host                    yes\n"
      "   1  mpirun could not start the job                  no; yes after a start that worked\n"
      "   2  wrong usage                                     no\n"
      "   3  done, but the loss is not finite                no\n"
      "  70  a bug in weir                                   once\n"
      "  74  checkpoints could not be written                no\n"
      "  75  stopped on request after a checkpoint           no\n"
      "  86  a job stood still, or did not begin             yes\n"
      "  93  given up: three starts made no progress         -\n"
      " 128 + n  a rank was killed by signal n               yes\n"
      "\n"
      "The options come before the two dashes:",
      options(standard));
}

void say(const std::string& line) { std::cerr << "weir: " + line + '\n' << std::flush; }

/// The words of a command line, cut at the first `--`.
std::pair<Arguments, Arguments> cut_at_dashes(const Arguments& arguments) {
  const auto dashes = std::ranges::find(arguments, "--");
  if (dashes == arguments.end()) return {arguments, {}};
  return {{arguments.begin(), dashes}, {dashes + 1, arguments.end()}};
}

bool speaks_under_mpirun(const std::string& word) {
  return std::ranges::any_of(commands(), [&](const Command& command) {
    return command.speaks_mpi && command.name == word;
  });
}

/// Throws UsageError for a word that stands where the command should.
void refuse_stranger(const std::string& word) {
  if (word.empty()) return;
  for (const Command& command : commands()) {
    if (command.name == word) {
      throw UsageError(text(word, " runs without mpirun: weir ", word, " ..."));
    }
  }
  throw UsageError(text("'", word, "' is none of train, eval and plan",
                        did_you_mean(word, {"train", "eval", "plan"})));
}

/// The path of this program: the ranks are started with it.
std::string own_path() { return fs::read_symlink("/proc/self/exe").string(); }

/// A job under mpirun from its first start to its last end.
class Supervisor {
 public:
  Supervisor(const SuperviseConfig& config, const MpirunWords& words)
      : words_(words),
        binary_(config.binary.empty() ? own_path() : fs::absolute(config.binary).string()),
        restarts_max_(words.trains() ? config.restarts : 0),
        start_wait_seconds_(words.trains() ? config.start_wait_seconds : 0),
        requests_(words.trains(), config.stop_wait_seconds),
        progress_(words),
        policy_(restarts_max_),
        left_out_hosts_(config.replicas_min, mpirun_host().has_slurm_job, words) {
    if (access(binary_.c_str(), X_OK) != 0) {
      throw Error(text("there is no ", binary_, "; build it: cmake --workflow --preset release"));
    }
    std::signal(SIGPIPE, SIG_IGN);  // the job's exit code counts, whoever reads what it says
    adopt_orphans();
    for (const auto& [name, value] : mpirun_environment(words, mpirun_host())) {
      setenv(name.c_str(), value.c_str(), 1);
    }
  }

  int run() {
    const index_t committed_at_start = progress_.committed_step();
    bool killed_by_request = false;
    for (index_t before = committed_at_start;;) {
      const bool goes_on = before > committed_at_start;
      const JobEnd end = run_mpirun(command(goes_on), start_limit(), requests_, signals_);
      const int code = code_of(end);
      const bool stood_still = code == static_cast<int>(ExitCode::hang) && !end.is_late;
      if (stood_still && !end.hang_is_named) say_hang();
      const bool can_again = restarts_max_ > 0 && !killed_by_request;
      if (end.code == 128 + SIGUSR1 && requests_.any() && can_again) {
        say("the request has also killed a rank that was just beginning; the job is started again "
            "to stop as it should");
        killed_by_request = true;
        continue;
      }
      if (requests_.any()) return ended_with(code);
      const index_t after = progress_.committed_step();
      const bool is_finished = code == static_cast<int>(ExitCode::error) && progress_.is_finished();
      const RestartDecision decision =
          policy_.after({code, end.any_began, before, after, is_finished});
      if (!decision.restart) {
        if (!decision.reason.empty()) say(text("the job is given up: ", decision.reason));
        return ended_with(decision.code);
      }
      if (const std::string remark = left_out_hosts_.after(end, progress_.run(), words_);
          !remark.empty()) {
        say(remark);
      }
      say_restart(code, decision.wait_seconds, after);
      if (const auto signal = signals_.wait(decision.wait_seconds)) {
        say(text("SIG", signal_name(*signal), " came before the job was started again"));
        return ended_with(after < 0 ? 128 + *signal : static_cast<int>(ExitCode::stopped));
      }
      if (progress_.is_asked_to_stop()) {
        say("the file STOP came before the job was started again");
        return ended_with(after < 0 ? code : static_cast<int>(ExitCode::stopped));
      }
      before = after;
    }
  }

 private:
  /// `goes_on`: there is a checkpoint of an earlier start, which counts now whatever the user's
  /// --resume said for the first one.
  std::vector<std::string> command(bool goes_on) const {
    std::vector<std::string> all = {"mpirun"};
    const std::vector<std::string> job =
        goes_on ? with_option(words_.command, "resume", "auto") : words_.command;
    all.insert(all.end(), words_.options.begin(), words_.options.end());
    all.insert(all.end(), {own_path_, std::string(kAsRank)});
    if (!progress_.run().empty()) {
      all.push_back(text("--live=", live_folder(progress_.run()).string()));
    }
    all.push_back(binary_);
    all.insert(all.end(), job.begin(), job.end());
    return all;
  }

  /// A job shows itself by its own LOCK in the run folder.
  StartLimit start_limit() const {
    if (progress_.run().empty()) return {};
    return {start_wait_seconds_,
            [this, before = progress_.holder()] { return progress_.holder() != before; }};
  }

  /// The job's exit code. Says why if nobody has said it yet.
  int code_of(const JobEnd& end) const {
    constexpr auto kStands =
        "What is committed stands: --resume auto goes on from the newest checkpoint";
    const bool is_good = end.code == 0 || end.code == static_cast<int>(ExitCode::stopped);
    if (const int signal = requests_.ending_signal(); signal != 0 && !is_good) {
      say(text("ended at once by SIG", signal_name(signal), ". ", kStands));
      return 128 + signal;
    }
    if (end.is_late) return static_cast<int>(ExitCode::hang);
    if (end.is_ended && !is_good) {
      return requests_.any() ? 128 + requests_.first_signal() : 128 + SIGKILL;
    }
    if (end.code != 0 && !end.any_began) {
      say(text("mpirun started no rank and ended with ", end.code, "; what it said stands above"));
      return static_cast<int>(ExitCode::error);
    }
    constexpr int kCodeMax = 192;  // no signal has a number above 64
    if (end.code > kCodeMax) {
      say(text("mpirun gave the job up and ended with ", end.code,
               ", as it does when it loses a host or the connection to one; what it knows of that "
               "stands above. ",
               kStands));
      return static_cast<int>(ExitCode::error);
    }
    return end.code;
  }

  /// From the records of all ranks, which outlive them.
  void say_hang() const {
    const std::string why = describe_hang(progress_.run());
    if (!why.empty()) say(text("the job stood still: ", why));
  }

  void say_restart(int code, double wait_seconds, index_t committed) const {
    say(text("the job ended with ", code, " and is started again ",
             wait_seconds > 0 ? text("in ", wait_seconds, " s") : "at once", " (restart ",
             policy_.restart_count(), " of ", restarts_max_, "); ",
             committed < 0 ? "no step is committed" : text("step ", committed, " is committed")));
  }

  /// Says at the end what the failures have cost.
  int ended_with(int code) const {
    if (restarts_max_ == 0) return code;
    try {
      SupervisionMetrics metrics = progress_.supervision();
      metrics.restart_count = policy_.restart_count();
      metrics.wall_seconds = seconds_now() - begin_;
      if (metrics.restart_count == 0 && metrics.step_count == 0) return code;
      say(supervision_text(metrics));
      progress_.write(metrics);
    } catch (const Error& error) {
      say(error.what());
    }
    return code;
  }

  MpirunWords words_;
  const std::string own_path_ = own_path();
  const std::string binary_;
  const index_t restarts_max_;
  const double start_wait_seconds_;
  const double begin_ = seconds_now();
  Requests requests_;
  Signals signals_;
  RunProgress progress_;
  RestartPolicy policy_;
  LeftOutHosts left_out_hosts_;
};

}  // namespace

int supervise(const Arguments& arguments) {
  const auto [own, rest] = cut_at_dashes(arguments);
  if (asks_for_help(own)) {
    std::cout << help_of_run();
    return 0;
  }
  const bool has_dashes = own.size() < arguments.size();
  if (!has_dashes && std::ranges::any_of(own, speaks_under_mpirun)) {
    throw UsageError("run: two dashes come before mpirun's options: weir run -- -n 3 train ...");
  }
  SuperviseConfig config;
  parse_options(options(config), std::nullopt, {}, own);
  const MpirunWords words = read_mpirun_words(rest);
  if (words.command.empty()) {
    refuse_stranger(words.stranger);
    std::cerr << help_of_run();
    return static_cast<int>(ExitCode::usage);
  }
  set_log_level(LogLevel::error);  // what a rank warns of is said once, by the rank
  return Supervisor(config, words).run();
}

}  // namespace weir
