#include "launch/supervise/mpirun_job.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iostream>

#include "common/base/machine.hpp"
#include "launch/supervise/process.hpp"

namespace weir {
namespace {

/// How long mpirun may be stopped (SIGSTOP): whoever suspends a whole job and wakes it again, as
/// Slurm does, may wake mpirun a little later than the supervisor.
constexpr double kStoppedSeconds = 2;
/// How long mpirun may take to end its ranks when it is told to.
constexpr double kEndSeconds = 10;
/// How long it may take when a rank has failed: it kills the others within two seconds, but waits
/// for minutes for a host behind a link that is cut.
constexpr double kFailedSeconds = 5;

/// Who asks a whole tree of processes to stop must not end an mpirun that just begins. It takes
/// SIGUSR1 as soon as it can pass it on.
void prepare_mpirun() {
  restore_signals_for_program();
  std::signal(SIGUSR1, SIG_IGN);
}

class MpirunProcess {
 public:
  MpirunProcess(const std::vector<std::string>& command, const StartLimit& start,
                Requests& requests, const Signals& signals)
      : start_(start), requests_(requests), signals_(signals) {
    // A process group of its own may not read from the terminal.
    const File nothing = isatty(STDIN_FILENO) != 0
                             ? File(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null")
                             : File();
    Pipe pipe = make_pipe();
    id_ = start_process(command,
                        {.ends_with_parent = SIGTERM,
                         .has_own_group = true,
                         .in = nothing.descriptor(),
                         .error = pipe.in.descriptor()},
                        prepare_mpirun);
    said_ = std::move(pipe.out);
    fcntl(said_.descriptor(), F_SETFL, O_NONBLOCK);
  }

  JobEnd until_end() {
    pass_on();
    while (!status_) {
      wait_for_anything();
      take_signals();
      read_some();
      look_at_process();
      look_at_clock();
    }
    while (read_some()) show_some();
    shown_ += filter_.end();
    while (!shown_.empty()) show_some();
    if (WIFSIGNALED(*status_) && !is_ended_ && !is_given_up_) {
      say(text("mpirun was killed by signal ", WTERMSIG(*status_), " (",
               signal_name(WTERMSIG(*status_)), "), and its ranks end with it"));
    }
    end_ranks_left();
    return {.code = is_given_up_ ? filter_.failure()->code : exit_code_of(*status_),
            .any_began = filter_.any_rank_began(),
            .is_ended = is_ended_,
            .is_late = is_late_,
            .hang_is_named = filter_.hang_is_named(),
            .failure = filter_.failure(),
            .lost_hosts = filter_.lost_hosts()};
  }

 private:
  static void say(const std::string& line) { std::cerr << "weir: " + line + '\n' << std::flush; }

  /// Until a signal, a line, room on stderr, or a time to look at the clock.
  void wait_for_anything() {
    pollfd each[] = {{signals_.descriptor(), POLLIN, 0},
                     {shown_.empty() ? said_.descriptor() : -1, POLLIN, 0},
                     {shown_.empty() ? -1 : STDERR_FILENO, POLLOUT, 0}};
    constexpr int kLookMilliseconds = 100;
    const bool has_deadline =
        awaits_start_ || stopped_at_ || failed_at_ || told_to_end_at_ || requests_.any();
    poll(each, 3, has_deadline ? kLookMilliseconds : -1);
    if (each[2].revents != 0) show_some();
  }

  void take_signals() {
    while (const auto signal = signals_.next()) {
      const std::string remark = requests_.take(*signal, seconds_now());
      if (!remark.empty()) std::cerr << remark + '\n' << std::flush;
      pass_on();
    }
  }

  /// Passes on what was asked so far.
  void pass_on() {
    if (requests_.ending_signal() != 0) {
      end_job();
    } else if (requests_.any() && filter_.all_ranks_began()) {
      kill(id_, SIGUSR1);
    }
  }

  void end_job() {
    is_ended_ = true;
    if (!told_to_end_at_) told_to_end_at_ = seconds_now();
    kill(id_, SIGTERM);
  }

  /// Reads what there is, if it can be shown. Whether there was anything.
  bool read_some() {
    if (!shown_.empty()) return true;
    char bytes[4096];
    const ssize_t count = read(said_.descriptor(), bytes, sizeof bytes);
    if (count == 0) said_ = File();  // nobody can say anything more
    if (count <= 0) return false;
    const bool began = filter_.all_ranks_began();
    shown_ = filter_.add({bytes, static_cast<std::size_t>(count)});
    if (!began && filter_.all_ranks_began()) pass_on();
    if (filter_.failure() && !failed_at_) failed_at_ = seconds_now();
    return true;
  }

  /// Writes as much as surely does not block where stderr has room.
  void show_some() {
    if (shown_.empty()) return;
    constexpr std::size_t kBytes = 4096;  // PIPE_BUF
    const ssize_t count = write(STDERR_FILENO, shown_.data(), std::min(shown_.size(), kBytes));
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return sleep_microseconds(1000);
    if (count < 0) return shown_.clear();  // nobody reads it
    shown_.erase(0, static_cast<std::size_t>(count));
  }

  void look_at_process() {
    int status = 0;
    while (!status_ && waitpid(id_, &status, WNOHANG | WUNTRACED | WCONTINUED) == id_) {
      if (WIFSTOPPED(status)) {
        stopped_at_ = seconds_now();
      } else if (WIFCONTINUED(status)) {
        stopped_at_.reset();
      } else {
        status_ = status;
      }
    }
  }

  void look_at_clock() {
    const double now = seconds_now();
    if (status_) return;
    if (stopped_at_ && now - *stopped_at_ > kStoppedSeconds) {
      say("mpirun was stopped (SIGSTOP) and is ended with its ranks");
      is_ended_ = true;
      return end_by_force();
    }
    if (failed_at_ && !told_to_end_at_ && now - *failed_at_ > kFailedSeconds) {
      say(text("mpirun has not ended within ", kFailedSeconds,
               " s after a rank failed, as when it cannot reach a host, and is ended"));
      is_given_up_ = true;
      return end_by_force();
    }
    if (told_to_end_at_ && now - *told_to_end_at_ > kEndSeconds) return end_by_force();
    if (!told_to_end_at_ && requests_.overdue(now)) {
      say(text("the job has not stopped within ", requests_.stop_wait_seconds(),
               " s (--stop-wait) and is ended. What is committed stands: --resume auto goes on "
               "from the newest checkpoint"));
      end_job();
    }
    if (awaits_start_ && now - began_at_ > start_.seconds) look_at_start();
  }

  void look_at_start() {
    awaits_start_ = false;
    is_late_ = !is_ended_ && !start_.has_begun();
    if (!is_late_) return;
    say(text(filter_.all_ranks_began()
                 ? "the ranks have begun, but none has taken the run folder"
                 : "mpirun has not started all ranks: does a host not answer? None has taken the "
                   "run folder",
             " within ", start_.seconds, " s (--start-wait); the job is ended"));
    end_job();
  }

  void end_by_force() {
    stopped_at_.reset();
    told_to_end_at_ = seconds_now();
    kill(-id_, SIGKILL);
  }

  const StartLimit& start_;
  Requests& requests_;
  const Signals& signals_;
  const double began_at_ = seconds_now();
  bool awaits_start_ = start_.seconds > 0;
  bool is_late_ = false;
  pid_t id_ = -1;
  File said_;  ///< what mpirun and the ranks write to stderr
  BannerFilter filter_;
  std::string shown_;  ///< what stderr has no room for yet
  std::optional<int> status_;
  std::optional<double> stopped_at_;
  std::optional<double> failed_at_;
  std::optional<double> told_to_end_at_;
  bool is_ended_ = false;
  bool is_given_up_ = false;  ///< ended although nobody asked for it, since a rank has failed
};

}  // namespace

JobEnd run_mpirun(const std::vector<std::string>& command, const StartLimit& start,
                  Requests& requests, const Signals& signals) {
  return MpirunProcess(command, start, requests, signals).until_end();
}

}  // namespace weir
