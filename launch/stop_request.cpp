#include "launch/stop_request.hpp"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>
#include <system_error>

#include "common/base/machine.hpp"

namespace weir {
namespace {

constexpr double kLookSeconds = 0.5;
constexpr std::string_view kSecondEnds =
    "weir: stops after the next step and a checkpoint; a second SIGTERM or SIGINT ends it at "
    "once\n";

// A handler can reach nothing else.
volatile std::sig_atomic_t signalled = 0;

extern "C" void note_stop_signal(int number) {
  signalled = 1;
  if (number != SIGTERM && number != SIGINT) return;
  const int interrupted_errno = errno;
  for (const int ending : {SIGTERM, SIGINT}) {
    struct sigaction now {};
    sigaction(ending, nullptr, &now);
    if (now.sa_handler == note_stop_signal) std::signal(ending, SIG_DFL);
  }
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, kSecondEnds.data(), kSecondEnds.size());
  errno = interrupted_errno;
}

void catch_signal(int number) {
  struct sigaction before {};
  sigaction(number, nullptr, &before);
  if (before.sa_handler == SIG_IGN) return;  // ignored by nohup, or for a background job of a shell
  struct sigaction action {};
  action.sa_handler = note_stop_signal;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, nullptr);
}

}  // namespace

void catch_stop_signals(bool alone) {
  catch_signal(SIGUSR1);
  if (!alone) return;
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) catch_signal(number);
}

void release_stop_signals() {
  sigset_t held;
  sigemptyset(&held);
  sigaddset(&held, SIGUSR1);
  sigprocmask(SIG_UNBLOCK, &held, nullptr);
}

bool stop_signalled() { return signalled != 0; }

StopRequest::StopRequest(const std::filesystem::path& run) : file_(run / "STOP") {}

bool StopRequest::arrived() {
  arrived_ = arrived_ || stop_signalled();
  const double now = seconds_now();
  if (!arrived_ && now - looked_at_ >= kLookSeconds) {
    looked_at_ = now;
    std::error_code error;
    arrived_ = std::filesystem::exists(file_, error);
  }
  return arrived_;
}

}  // namespace weir
