#include "launch/stop_request.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "launch/run/run_folder.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::stop_request_test {
namespace {

using test::TemporaryFolder;

/// What waitpid says of a process of its own that does `work`: a signal that has come stays.
template <class Work>
int in_a_process(const Work& work) {
  const pid_t child = fork();
  if (child == 0) {
    close(STDERR_FILENO);
    work();
    _exit(0);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

bool ended_by(int status, int signal) { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }

TEST_CASE("a file STOP asks the job to end; one from before does not") {
  const TemporaryFolder scratch;
  std::ofstream(scratch / "STOP").put('\n');
  fs::last_write_time(scratch / "STOP", fs::file_time_type::clock::now() - std::chrono::hours(1));
  {
    const RunFolder folder(scratch.path());
    StopRequest early(folder.path());
    CHECK_FALSE(early.arrived());
  }
  std::ofstream(scratch / "STOP").put('\n');  // while the process starts
  const RunFolder folder(scratch.path());
  StopRequest stop(folder.path());
  CHECK(stop.arrived());
  fs::remove(scratch / "STOP");
  CHECK(stop.arrived());
}

TEST_CASE("SIGUSR1 asks a job to end; in a job of one process SIGTERM, SIGINT and SIGHUP do, too") {
  const TemporaryFolder scratch;
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT, SIGHUP}) {
    CAPTURE(signal);
    for (const bool alone : {true, false}) {
      CAPTURE(alone);
      const int status = in_a_process([&] {
        catch_stop_signals(alone);
        StopRequest stop(scratch.path());
        if (stop.arrived()) _exit(1);
        raise(signal);
        if (!stop.arrived()) _exit(2);
      });
      if (alone || signal == SIGUSR1) {
        CHECK(status == 0);
      } else {
        CHECK(ended_by(status, signal));
      }
    }
  }
}

TEST_CASE("a second SIGTERM or SIGINT ends the process at once, whichever the first was") {
  for (const int first : {SIGTERM, SIGINT}) {
    for (const int second : {SIGTERM, SIGINT}) {
      const int status = in_a_process([&] {
        catch_stop_signals(true);
        raise(SIGUSR1);  // does not count
        raise(SIGHUP);
        raise(first);
        if (!stop_signalled()) _exit(1);
        raise(second);
      });
      CHECK(ended_by(status, second));
    }
  }
}

TEST_CASE("a signal that is ignored when the program starts stays ignored") {
  const int status = in_a_process([] {
    std::signal(SIGHUP, SIG_IGN);
    catch_stop_signals(true);
    raise(SIGHUP);
    if (stop_signalled()) _exit(1);
  });
  CHECK(status == 0);
}

TEST_CASE("SIGUSR1 that was held back while the program started asks the job to end") {
  const int status = in_a_process([] {
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGUSR1);
    sigprocmask(SIG_BLOCK, &held, nullptr);
    raise(SIGUSR1);
    catch_stop_signals(false);
    if (stop_signalled()) _exit(1);
    release_stop_signals();
    if (!stop_signalled()) _exit(2);
  });
  CHECK(status == 0);
}

}  // namespace

}  // namespace weir::test::stop_request_test
