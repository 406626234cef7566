#include "launch/supervise/process.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>

#include "common/base/machine.hpp"

namespace weir {
namespace {

[[noreturn]] void become(char* const* words, const ProcessStart& start, pid_t parent,
                         void (*restore)()) {
  if (start.has_own_group) setpgid(0, 0);
  if (start.ends_with_parent != 0) {
    prctl(PR_SET_PDEATHSIG, start.ends_with_parent);
    if (getppid() != parent) _exit(128 + start.ends_with_parent);
  }
  int standard = 0;
  for (const int descriptor : {start.in, start.out, start.error}) {
    if (descriptor >= 0) dup2(descriptor, standard);
    ++standard;
  }
  restore();
  execvp(words[0], words);
  const std::string message =
      text("weir: cannot start ", words[0], ": ", std::strerror(errno), '\n');
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, message.data(), message.size());
  _exit(127);
}

std::string contents_of(const fs::path& path) {
  std::ostringstream contents;
  contents << std::ifstream(path, std::ios::binary).rdbuf();
  return contents.str();
}

std::vector<pid_t> children() {
  std::vector<pid_t> all;
  std::error_code error;
  for (const auto& thread : fs::directory_iterator("/proc/self/task", error)) {
    std::istringstream numbers(contents_of(thread.path() / "children"));
    for (pid_t child; numbers >> child;) all.push_back(child);
  }
  return all;
}

/// What a child of this process is, as far as /proc tells.
enum class Kind { rank, dying, other };

Kind kind_of(pid_t child) {
  const fs::path folder = text("/proc/", child);
  // A process that is on its way out has no memory any more, but may still hold files.
  if (contents_of(folder / "cmdline").empty()) return Kind::dying;
  const std::string environment = '\0' + contents_of(folder / "environ");
  const std::string rank = std::string(1, '\0') + "OMPI_COMM_WORLD_RANK=";
  return environment.find(rank) == std::string::npos ? Kind::other : Kind::rank;
}

}  // namespace

pid_t start_process(const std::vector<std::string>& words, const ProcessStart& start,
                    void (*restore)()) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) become(pointers.data(), start, parent, restore);
  if (child < 0) throw Error(text("cannot start ", words[0], ": ", std::strerror(errno)));
  if (start.has_own_group) setpgid(child, child);  // whoever comes first
  return child;
}

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw Error(text("cannot make a pipe: ", std::strerror(errno)));
  return {File(ends[0], "a pipe"), File(ends[1], "a pipe")};
}

int exit_code_of(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void adopt_orphans() { prctl(PR_SET_CHILD_SUBREAPER, 1); }

void end_ranks_left() {
  constexpr double kSecondsMax = 2;
  const double begin = seconds_now();
  while (seconds_now() - begin < kSecondsMax) {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    bool any = false;
    for (const pid_t child : children()) {
      const Kind kind = kind_of(child);
      if (kind == Kind::rank) kill(child, SIGKILL);
      any = any || kind != Kind::other;
    }
    if (!any) return;
    sleep_microseconds(2000);
  }
}

}  // namespace weir
