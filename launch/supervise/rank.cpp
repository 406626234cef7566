#include "launch/supervise/rank.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "common/base/machine.hpp"
#include "launch/run/live.hpp"
#include "launch/supervise/banner_filter.hpp"
#include "launch/supervise/process.hpp"
#include "launch/supervise/requests.hpp"

namespace weir {
namespace {

/// One write, so that lines of several ranks never mix.
void write_line(const std::string& line) {
  const std::string bytes = line + '\n';
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, bytes.data(), bytes.size());
}

std::string launcher_variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

extern "C" void do_nothing(int) {}
void restore_nothing() {}

/// Holds SIGUSR1 back in the program that is started. This process must survive it, too: not all
/// its threads hold it back (libraries have started some), and if it ignored the signal, so would
/// the program.
void hold_stop_signal() {
  std::signal(SIGUSR1, do_nothing);
  sigset_t held;
  sigemptyset(&held);
  sigaddset(&held, SIGUSR1);
  sigprocmask(SIG_BLOCK, &held, nullptr);
}

volatile sig_atomic_t is_told_to_end = 0;
volatile pid_t told_program = 0;

extern "C" void pass_end_on(int) {
  is_told_to_end = 1;
  if (told_program > 0) kill(told_program, SIGTERM);
}

int status_of(pid_t process) {
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/// Whether weir has said itself why it ended with this code.
bool is_explained(int code) {
  switch (static_cast<ExitCode>(code)) {
    case ExitCode::done:
    case ExitCode::error:
    case ExitCode::usage:
    case ExitCode::diverged:
    case ExitCode::internal:
    case ExitCode::storage:
    case ExitCode::stopped:
    case ExitCode::hang:
      return true;
    case ExitCode::no_progress:
      return false;  // a rank never ends with it
  }
  return false;
}

/// Whether a rank that ends with this code ends the job: others leave together.
bool is_failure(int code) {
  return code != static_cast<int>(ExitCode::done) && code != static_cast<int>(ExitCode::diverged) &&
         code != static_cast<int>(ExitCode::stopped);
}

/// What the program writes to stdout within some seconds; its first line.
std::string first_line_of(const std::vector<std::string>& command) {
  constexpr double kSecondsMax = 5;
  Pipe pipe = make_pipe();
  const File nothing(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
  const pid_t process = start_process(command,
                                      {.ends_with_parent = SIGKILL,
                                       .in = nothing.descriptor(),
                                       .out = pipe.in.descriptor(),
                                       .error = nothing.descriptor()},
                                      restore_nothing);
  pipe.in = File();
  std::string said;
  for (const double end = seconds_now() + kSecondsMax; seconds_now() < end;) {
    pollfd each = {pipe.out.descriptor(), POLLIN, 0};
    poll(&each, 1, static_cast<int>((end - seconds_now()) * 1000) + 1);
    char bytes[512];
    const ssize_t count = each.revents == 0 ? -1 : read(pipe.out.descriptor(), bytes, sizeof bytes);
    if (count == 0) break;
    if (count > 0) said.append(bytes, static_cast<std::size_t>(count));
  }
  kill(process, SIGKILL);  // no harm if it has ended
  status_of(process);
  return said.substr(0, said.find('\n'));
}

/// Which stage, shard or server the rank is; nothing if the command is not train.
std::string role_of(const std::string& rank, const std::vector<std::string>& words) {
  for (const char* const name :
       {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    unsetenv(name);
  }
  std::vector<std::string> command = {words[0], "plan", "--rank", rank};
  command.insert(command.end(), words.begin() + 2, words.end());
  const std::string role = first_line_of(command);
  return role.empty() ? "" : text(", ", role);
}

}  // namespace

int run_rank(std::vector<std::string> words) {
  constexpr std::string_view kLive = "--live=";
  fs::path live;
  if (!words.empty() && words.front().starts_with(kLive)) {
    live = words.front().substr(kLive.size());
    words.erase(words.begin());
  }
  if (words.size() < 2) {
    write_line(text("weir: ", kAsRank, " is for `weir run` alone"));
    return static_cast<int>(ExitCode::usage);
  }
  hold_stop_signal();
  const std::string rank = launcher_variable("OMPI_COMM_WORLD_RANK");
  // mpirun tells all ranks of a job that has failed to end; this process notes it first.
  std::signal(SIGTERM, pass_end_on);
  // If this process is killed, nobody else would end the program.
  told_program = start_process(words, {.ends_with_parent = SIGKILL}, restore_nothing);
  if (is_told_to_end != 0) kill(told_program, SIGTERM);
  // Only now: what comes before there is the program does not reach it.
  write_line(text(kRankBegins, launcher_variable("OMPI_COMM_WORLD_SIZE")));
  const int status = status_of(told_program);
  const int code = exit_code_of(status);
  if (is_failure(code) && !live.empty()) note_end(live, std::atoll(rank.c_str()));
  if (is_told_to_end != 0) return code;
  if (is_failure(code)) write_line(text(kRankFailed, code, " on ", host_name()));
  if (!WIFSIGNALED(status) && is_explained(code)) return code;
  const std::string how = WIFSIGNALED(status) ? text("was killed by signal ", WTERMSIG(status),
                                                     " (", signal_name(WTERMSIG(status)), ")")
                                              : text("ended with exit code ", code);
  write_line(text("weir: rank ", rank, role_of(rank, words), ", on ", host_name(), ", ", how,
                  "; the job ends. What is committed stands: --resume auto goes on from the newest "
                  "checkpoint"));
  return code;
}

}  // namespace weir
